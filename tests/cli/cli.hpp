// Runs the built binary as scripts do, on files of a folder of its own.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace cupel_cli {

namespace fs = std::filesystem;

struct Ended {
  int exit_code = -1;  ///< -n when killed by signal n
  long most_kib = 0;   ///< the most memory that was resident
  std::string out, err;
};

struct Invocation {
  std::vector<std::string> arguments;
  std::string input;                     ///< standard input
  std::vector<std::string> environment;  ///< NAME=value, added
  std::string out_path;                  ///< standard output goes there instead
  bool disk_full = false;                ///< no file may grow
  int signal = 0;                 ///< sent once it is handled; standard input then never ends
  bool signal_at_output = false;  ///< sent once a half-written file is in the folder instead
};

/// Reads two pipes to their ends, whichever has something first.
inline void drain(int out, std::string& out_text, int err, std::string& err_text) {
  pollfd fds[] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string* texts[] = {&out_text, &err_text};
  int open_ends = 2;
  while (open_ends > 0 && ::poll(fds, 2, -1) >= 0) {
    for (int i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t count = ::read(fds[i].fd, buffer, sizeof buffer);
      if (count > 0) {
        texts[i]->append(buffer, static_cast<std::size_t>(count));
      } else {
        ::close(fds[i].fd);
        fds[i].fd = -1;
        --open_ends;
      }
    }
  }
}

/// Until the process has a handler for the signal; a process that ends before is none to wait for.
inline void wait_until_handled(pid_t child, int signal) {
  for (;;) {
    std::ifstream status("/proc/" + std::to_string(child) + "/status");
    unsigned long long caught = 0;
    bool found = false;
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("State:\tZ", 0) == 0) return;
      if (line.rfind("SigCgt:", 0) != 0) continue;
      caught = std::strtoull(line.c_str() + 7, nullptr, 16);
      found = true;
    }
    if (!found || (caught >> (signal - 1) & 1) != 0) return;
    ::usleep(1000);
  }
}

inline bool is_running(pid_t child) {
  std::ifstream status("/proc/" + std::to_string(child) + "/status");
  std::ostringstream text;
  text << status.rdbuf();
  return !text.str().empty() && text.str().find("State:\tZ") == std::string::npos;
}

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "cupel-cli-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    // Four positives and four negatives, one tie: AUROC 13.5/16 by counting pairs.
    write("a.csv",
          "label,score,sex\n"
          "1,0.9,f\n0,0.8,m\n1,0.7,f\n1,0.6,m\n0,0.6,f\n0,0.3,m\n1,0.75,m\n0,0.1,f\n");
    write("b.csv", "label,score,sex\n1,0.9,f\n0,0.2,f\n1,0.3,m\n0,0.4,m\n");
    write("bad.csv", "label,score\n1,0.5\n0,abc\n");
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream file(folder_ / name, std::ios::binary);
    file << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  bool has_half_written() const {
    const std::vector<std::string> names = files();
    return std::any_of(names.begin(), names.end(),
                       [](const std::string& name) { return name.rfind(".cupel-", 0) == 0; });
  }

  Ended run(std::vector<std::string> arguments) const {
    return invoke(Invocation{std::move(arguments), {}, {}, {}, false, 0, false});
  }

  /// In the test's folder, with an environment of PATH and what is added: nothing of the tester's.
  Ended invoke(const Invocation& call) const {
    write(".input", call.input);
    int out[2];
    int err[2];
    if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0) return {};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder_.c_str());
    if (call.signal == 0) {
      posix_spawn_file_actions_addopen(&actions, 0, ".input", O_RDONLY, 0);
    } else {
      fs::remove(folder_ / ".input");
      (void)::mkfifo(path(".input").c_str(), 0600);
      posix_spawn_file_actions_addopen(&actions, 0, ".input", O_RDWR, 0);  // its own writer
    }
    if (call.out_path.empty()) {
      posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    } else {
      posix_spawn_file_actions_addopen(&actions, 1, call.out_path.c_str(), O_WRONLY, 0);
    }
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);

    std::vector<std::string> words = {"cupel"};
    words.insert(words.end(), call.arguments.begin(), call.arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::vector<std::string> settings = {"PATH=/usr/bin:/bin"};
    for (const char* kept : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LD_LIBRARY_PATH"}) {
      if (const char* value = std::getenv(kept))
        settings.push_back(std::string(kept) + "=" + value);
    }
    settings.insert(settings.end(), call.environment.begin(), call.environment.end());
    std::vector<char*> environment;
    for (std::string& setting : settings) environment.push_back(setting.data());
    environment.push_back(nullptr);

    rlimit saved{};
    ::getrlimit(RLIMIT_FSIZE, &saved);
    const rlimit none{0, saved.rlim_max};
    if (call.disk_full) ::setrlimit(RLIMIT_FSIZE, &none);
    pid_t child = 0;
    const int fault =
        ::posix_spawn(&child, CUPEL_BINARY, &actions, nullptr, argv.data(), environment.data());
    ::setrlimit(RLIMIT_FSIZE, &saved);
    posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    ::close(err[1]);
    if (fault == 0 && call.signal != 0) {
      wait_until_handled(child, call.signal);
      while (call.signal_at_output && !has_half_written() && is_running(child)) ::usleep(500);
      ::kill(child, call.signal);
    }
    Ended done;
    drain(out[0], done.out, err[0], done.err);
    fs::remove(folder_ / ".input");
    if (fault != 0) return done;
    int status = 0;
    rusage usage{};
    while (::wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    done.most_kib = usage.ru_maxrss;
    done.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return done;
  }

  /// A npy file of a C-ordered array.
  template <class T>
  void write_npy(const std::string& name, const std::string& type, const std::string& shape,
                 const std::vector<T>& values) const {
    std::string header =
        "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize((header.size() + 10 + 64) / 64 * 64 - 10, ' ');
    header.back() = '\n';
    std::string text("\x93NUMPY\x01\x00", 8);
    text += static_cast<char>(header.size() & 0xFF);
    text += static_cast<char>(header.size() >> 8);
    text += header;
    text.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    write(name, text);
  }
  /// Evaluates a matrix of three classes against the labels 0, 1, 2, 0.
  Ended eval_classes(const std::vector<double>& probs, std::vector<std::string> options) const {
    write_npy("p.npy", "<f8", "(" + std::to_string(probs.size() / 3) + ", 3)", probs);
    write_npy<std::int64_t>("y.npy", "<i8", "(4,)", {0, 1, 2, 0});
    std::vector<std::string> call = {"eval",  "p.npy",     "--probs", "p",        "--label",
                                     "y.npy", "--backend", "cpu",     "--format", "csv"};
    call.insert(call.end(), options.begin(), options.end());
    return run(call);
  }

  /// Nothing on standard output, one line on standard error, this exit code.
  void expect_refusal(const Ended& done, int exit_code, const std::string& message) const {
    EXPECT_EQ(done.exit_code, exit_code);
    EXPECT_EQ(done.out, "");
    EXPECT_EQ(done.err, "cupel: " + message + "\n");
  }

  fs::path folder_;
};

}  // namespace cupel_cli
