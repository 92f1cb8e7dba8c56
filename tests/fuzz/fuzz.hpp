// What the fuzz programs share: each gives a seed corpus and an entry point, driver.cpp mutates.
//
// The promise under test: any bytes give a Dump that loads and verifies, or an Error of kInput with
// a text; nothing else, in memory that is bounded by the size of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// One input, as libFuzzer calls it. Aborts when a promise is broken.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace cupel::fuzz {

/// Valid and nearly valid files from which the mutations start.
std::vector<std::string> seeds();

/// Opens the bytes with the reader of `format`, loads every array that is readable, verifies, and
/// aborts with a message when a promise is broken.
void check_reader(const char* format, const char* name, const std::uint8_t* data, std::size_t size);

}  // namespace cupel::fuzz
