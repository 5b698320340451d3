/** Shares loops among as many threads as TensorFlow computes with, whose own are idle while one of these runs. */
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
  /** Calls body(part) for each part, in no order. The parts must not depend on how many threads there are. */
  static void share(int64_t parts, const std::function<void(int64_t)>& body) {
    static Workers* workers = new Workers;  // never ends: its threads wait when the process exits
    workers->run(parts, body);
  }

 private:
  Workers() {
    const char* set = std::getenv("TF_NUM_INTRAOP_THREADS");
    int threads = set == nullptr ? 0 : std::atoi(set);
    if (threads <= 0) threads = std::thread::hardware_concurrency();
    for (int i = 1; i < threads; i++) std::thread(&Workers::serve, this).detach();
    helpers_ = threads - 1;
  }

  void run(int64_t parts, const std::function<void(int64_t)>& body) {
    if (parts <= 1 || helpers_ == 0) {
      for (int64_t part = 0; part < parts; part++) body(part);
      return;
    }
    std::lock_guard<std::mutex> one_at_a_time(caller_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      parts_ = parts;
      next_ = 0;
    }
    start_.notify_all();
    take(body, parts);
    std::unique_lock<std::mutex> lock(mutex_);
    body_ = nullptr;  // who wakes now comes too late
    done_.wait(lock, [this] { return busy_ == 0; });
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      start_.wait(lock, [this] { return body_ != nullptr && next_ < parts_; });
      busy_++;
      const auto& body = *body_;
      const int64_t parts = parts_;
      lock.unlock();
      take(body, parts);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void take(const std::function<void(int64_t)>& body, int64_t parts) {
    for (int64_t part = next_++; part < parts; part = next_++) body(part);
  }

  int helpers_ = 0;
  std::mutex caller_, mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int64_t)>* body_ = nullptr;
  int64_t parts_ = 0;
  std::atomic<int64_t> next_{0};
  int busy_ = 0;
};
