# Configures the release preset and compiles what knows its list of architectures: kernels for all of
# them take too long for a test, but a list that no command line can carry is seen here.
execute_process(COMMAND ${CMAKE_COMMAND} --preset release -B ${FOLDER} -DCUPEL_TESTS=OFF -DCUPEL_BENCH=OFF
                WORKING_DIRECTORY ${SOURCE} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${FOLDER} --target cupel_cuda_host -j 1
                COMMAND_ERROR_IS_FATAL ANY)
