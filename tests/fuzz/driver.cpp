// A deterministic fuzzer: the same mutations of the same seeds on every machine, in a few seconds.
// Usage: fuzz_FORMAT [INPUTS [SEED]].
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include "cupel/core/int.hpp"
#include "fuzz/fuzz.hpp"
#include "io/fixtures.hpp"

// Under ASan, no single request of ours or of a library may exceed what the inputs justify.
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=64"; }

namespace {

std::size_t largest_request = 0;

void* allocate(std::size_t size) {
  if (size > largest_request) largest_request = size;
  return std::malloc(size == 0 ? 1 : size);
}

}  // namespace

// Every allocation of the readers goes through here, so that the largest one is known.
void* operator new(std::size_t size) {
  if (void* memory = allocate(size)) return memory;
  std::abort();
}
void* operator new[](std::size_t size) {
  if (void* memory = allocate(size)) return memory;
  std::abort();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace cupel::fuzz {
namespace {

constexpr i64 kMaxInputBytes = 4096;
// 4 KiB expand to 4.1 MiB at most (deflate: 1032 to 1); the blocks of a streaming reader are 2 MiB.
constexpr std::size_t kMaxRequestBytes = 64 << 20;

u64 opened = 0, verified = 0, refused = 0;
u64 byte_sum = 0;  // printed, so that reading the arrays is not optimised away

[[noreturn]] void fail(const char* what, const std::string& detail) {
  std::fprintf(stderr, "broken promise: %s: %s\n", what, detail.c_str());
  std::abort();
}

void check_error(const Error& error) {
  if (error.code != ErrorCode::kInput) fail("an error that is not of the input", error.text());
  if (error.text().empty() || error.what.empty()) fail("an error without a text", error.where);
  if (error.text().find('\n') != std::string::npos) fail("an error of two lines", error.text());
}

/// Reads all that the view says is there; a wrong stride or offset is found by ASan.
u64 touch(const ArrayView& view) {
  u64 sum = 0;
  if (view.dtype == DType::kText) {
    for (i64 row = 0; row < view.rows(); ++row) sum += text_at(view, row).size();
    return sum;
  }
  i64 last = 0, count = 1;
  for (std::size_t d = 0; d < view.shape.size(); ++d) {
    count *= view.shape[d];
    if (view.shape[d] > 0) last += (view.shape[d] - 1) * view.strides[d];
  }
  if (count == 0 || view.item_bytes == 0) return sum;
  for (i64 i = 0; i < last + view.item_bytes; ++i) sum += static_cast<u64>(view.data[i]);
  for (i64 row = 0; view.shape.size() == 1 && row < view.rows(); ++row) {
    if (is_string(view.dtype)) {
      sum += text_at(view, row).size();
    } else {
      sum += number_at(view, row) > 0 ? 1 : 0;
    }
  }
  return sum;
}

/// xorshift64*, the same everywhere.
class Random {
 public:
  explicit Random(u64 seed) : state_(seed * 2 + 1) {}
  u64 next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  std::size_t below(std::size_t n) { return n == 0 ? 0 : (next() >> 16) % n; }

 private:
  u64 state_;
};

void mutate(std::string& bytes, const std::vector<std::string>& corpus, Random& random) {
  static const u64 kFields[] = {0,          1,          2,          0x7f,       0x80,
                                0xff,       0x7fff,     0xffff,     0x7fffffff, 0x80000000,
                                0xffffffff, 1ull << 32, ~0ull >> 1, ~0ull};
  static const char* const kTokens[] = {
      "'",   "\"", "(",    ")", ",",      "{",      "}",   "\n",  "\r", "\t",         "<U",
      ">f8", "|O", "True", "L", "PK\3\4", "PK\1\2", "nan", "1e9", "-",  "9999999999", "\0"};
  const std::size_t at = random.below(bytes.size());
  switch (random.below(8)) {
    case 0:  // a bit
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      break;
    case 1:  // a byte
      if (!bytes.empty()) bytes[at] = static_cast<char>(random.next());
      break;
    case 2:  // an end
      bytes.resize(at);
      break;
    case 3: {  // an integer field of 1, 2, 4 or 8 bytes
      const u64 value = kFields[random.below(std::size(kFields))];
      const std::size_t size = std::size_t{1} << random.below(4);
      if (at + size <= bytes.size()) std::memcpy(bytes.data() + at, &value, size);
      break;
    }
    case 4: {  // a piece of another file
      const std::string& other = corpus[random.below(corpus.size())];
      const std::size_t from = random.below(other.size());
      bytes = bytes.substr(0, at) + other.substr(from, random.below(other.size() - from) + 1);
      break;
    }
    case 5:  // something left out
      bytes.erase(at, random.below(16) + 1);
      break;
    case 6: {  // something repeated
      const std::string piece = bytes.substr(at, random.below(64) + 1);
      bytes.insert(at, piece);
      break;
    }
    default: {  // something that means something
      const char* token = kTokens[random.below(std::size(kTokens))];
      const std::string text(token, std::max<std::size_t>(std::strlen(token), 1));
      if (random.below(2) == 0) {
        bytes.insert(at, text);
      } else {
        bytes.replace(at, text.size(), text);
      }
    }
  }
  if (bytes.size() > kMaxInputBytes) bytes.resize(kMaxInputBytes);
}

void run_one(const std::string& bytes) {
  largest_request = 0;
  LLVMFuzzerTestOneInput(reinterpret_cast<const u8*>(bytes.data()), bytes.size());
  if (largest_request > kMaxRequestBytes) {
    fail("a request for memory that the input does not justify", std::to_string(largest_request));
  }
}

}  // namespace

void check_reader(const char* format, const char* name, const u8* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  Result<std::unique_ptr<Dump>> result = fixtures::open_as(format, name, bytes);
  if (!result.ok()) {
    ++refused;
    return check_error(result.error());
  }
  ++opened;
  Dump& dump = **result;
  bool all_loaded = true;
  for (std::size_t i = 0; i < dump.arrays().size(); ++i) {
    const i64 array = static_cast<i64>(i);
    const Result<std::vector<Array>> loaded = dump.load({&array, 1});
    if (!loaded.ok()) {
      check_error(loaded.error());
      all_loaded = false;
      continue;
    }
    if (!dump.readable(array).ok()) fail("an array that loads but is not readable", name);
    const ArrayView& view = loaded->front().view;
    if (view.shape != dump.arrays()[i].shape || view.dtype != dump.arrays()[i].dtype) {
      fail("an array that is not what was announced", dump.arrays()[i].name);
    }
    byte_sum += touch(view);
    if (dump.place(array, 0).empty()) fail("a row without a place", name);
    if (view.dtype == DType::kText) check_error(dump.not_numeric(array));
  }
  const Result<HashText> hash = dump.verify();
  if (!hash.ok()) {
    check_error(hash.error());
  } else if (hash->size() != 32) {
    fail("a hash that is not of 128 bits", *hash);
  } else if (all_loaded) {
    ++verified;
  }
}

int run(u64 inputs, u64 seed) {
  const std::vector<std::string> corpus = seeds();
  for (const std::string& bytes : corpus) run_one(bytes);
  Random random(seed);
  for (u64 i = 0; i < inputs; ++i) {
    std::string bytes = corpus[random.below(corpus.size())];
    // Mostly one or two: more rarely leave anything that gets past the first check.
    for (std::size_t left = random.below(4) == 0 ? random.below(8) : 1; left-- > 0;) {
      mutate(bytes, corpus, random);
    }
    run_one(bytes);
  }
  std::printf("%llu inputs: %llu refused, %llu opened, %llu of them verified, byte sum %llu\n",
              static_cast<unsigned long long>(inputs + corpus.size()),
              static_cast<unsigned long long>(refused), static_cast<unsigned long long>(opened),
              static_cast<unsigned long long>(verified), static_cast<unsigned long long>(byte_sum));
  // A run in which nothing opens, or nothing is refused, has tested nothing.
  return verified > 0 && refused > 0 ? 0 : 1;
}

}  // namespace cupel::fuzz

int main(int argc, char** argv) {
  const cupel::u64 inputs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20'000;
  const cupel::u64 seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  return cupel::fuzz::run(inputs, seed);
}
