/** Runs loops on as many threads as TensorFlow uses, whose own threads are idle during one of these operations. */
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>

class Workers {
 public:
  using Body = std::function<void(int64_t part)>;

  /** Calls body for each part, in any order; returns when all are done. */
  static void share(int64_t parts, const Body& body) {
    static Workers* workers = new Workers;  // never deleted: its threads sleep until the process exits
    workers->run(parts, body);
  }

 private:
  Workers() {
    const char* set = std::getenv("TF_NUM_INTRAOP_THREADS");
    int threads = set == nullptr ? 0 : std::atoi(set);
    if (threads <= 0) threads = std::thread::hardware_concurrency();
    for (; helpers_ < threads - 1; helpers_++) std::thread(&Workers::help, this).detach();
  }

  void run(int64_t parts, const Body& body) {
    if (parts <= 1 || helpers_ == 0) {
      for (int64_t part = 0; part < parts; part++) body(part);
      return;
    }
    std::lock_guard<std::mutex> oneAtATime(callers_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      parts_ = parts;
      next_ = 0;
    }
    wake_.notify_all();
    takeParts(body, parts);
    std::unique_lock<std::mutex> lock(mutex_);
    body_ = nullptr;  // a helper that wakes from now on finds no work and is not awaited
    done_.wait(lock, [this] { return busy_ == 0; });
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return body_ != nullptr && next_ < parts_; });
      const Body& body = *body_;
      const int64_t parts = parts_;
      busy_++;
      lock.unlock();
      takeParts(body, parts);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void takeParts(const Body& body, int64_t parts) {
    for (int64_t part = next_++; part < parts; part = next_++) body(part);
  }

  int helpers_ = 0;
  std::mutex callers_;
  std::mutex mutex_;  // protects the members below
  std::condition_variable wake_, done_;
  const Body* body_ = nullptr;
  int64_t parts_ = 0;
  int busy_ = 0;
  std::atomic<int64_t> next_{0};
};

/** Elements in a part: enough to outweigh the overhead, few enough to fit in a core's cache. */
constexpr int64_t PART = 1 << 15;

constexpr int64_t rowsPerPart(int64_t width) { return width >= PART ? 1 : PART / (width < 1 ? 1 : width); }

/** Calls body(begin, end) for consecutive ranges of 0..count, which do not depend on the number of threads. */
template <typename Body>
void inParts(int64_t count, int64_t size, const Body& body) {
  Workers::share((count + size - 1) / size, [&](int64_t part) {
    const int64_t begin = part * size;
    body(begin, begin + size < count ? begin + size : count);
  });
}
