// Traces the GPU's kernels while recorded steps are replayed: a library for CUDA_INJECTION64_PATH, which the driver loads
// into a process before its first call. Built and read by trace.mjs. Work outside graphs, such as warm-up and tuning, is left
// out. At exit it writes to the file named by MOD_TRACE:
//
//   {"replays": n, "period_ms": .., "busy_ms": .., "kernels": [{"name": .., "calls": per replay, "ms": per replay}, ..]}
//
// busy_ms: the union of the work's intervals in a replay; period_ms: from a replay's start to the next one's, if they
// follow each other without a pause. Both are medians, and tracing widens the gaps: compare busy_ms with the time of an
// untraced step.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cupti.h>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Work {
  uint64_t start, end;
  std::string name;
};

std::mutex guard;
// By correlation id: a replay is one API call.
std::map<uint32_t, std::vector<Work>> replays;

void addWork(uint32_t graph, uint32_t call, uint64_t start, uint64_t end, const char *name) {
  if (graph != 0) replays[call].push_back({start, end, name});
}

void CUPTIAPI provideBuffer(uint8_t **buffer, size_t *size, size_t *mostRecords) {
  *size = 16 << 20;
  *buffer = static_cast<uint8_t *>(aligned_alloc(16, *size));
  *mostRecords = 0;
}

void CUPTIAPI readBuffer(CUcontext, uint32_t, uint8_t *buffer, size_t, size_t valid) {
  std::lock_guard<std::mutex> lock(guard);
  CUpti_Activity *record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    // Later versions of these records only add fields at their end.
    if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      auto *kernel = reinterpret_cast<CUpti_ActivityKernel9 *>(record);
      addWork(kernel->graphId, kernel->correlationId, kernel->start, kernel->end, kernel->name);
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
      auto *copy = reinterpret_cast<CUpti_ActivityMemcpy5 *>(record);
      addWork(copy->graphId, copy->correlationId, copy->start, copy->end, "(copy)");
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
      auto *fill = reinterpret_cast<CUpti_ActivityMemset4 *>(record);
      addWork(fill->graphId, fill->correlationId, fill->start, fill->end, "(fill)");
    }
  }
  free(buffer);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Milliseconds in which at least one piece of work runs; the work is sorted by start.
double busyTime(const std::vector<Work> &work) {
  uint64_t sum = 0, until = 0;
  for (const Work &each : work) {
    if (each.end <= until) continue;
    sum += each.end - std::max(each.start, until);
    until = each.end;
  }
  return sum / 1e6;
}

void report() {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  std::lock_guard<std::mutex> lock(guard);
  const char *path = getenv("MOD_TRACE");
  FILE *file = path == nullptr ? nullptr : fopen(path, "w");
  if (file == nullptr) return;
  std::vector<double> busy, periods;
  std::map<std::string, std::pair<size_t, double>> kernels;
  uint64_t previousStart = 0, previousEnd = 0;
  std::vector<std::vector<Work> *> inOrder;
  for (auto &[call, work] : replays) {
    std::sort(work.begin(), work.end(), [](const Work &a, const Work &b) { return a.start < b.start; });
    inOrder.push_back(&work);
  }
  std::sort(inOrder.begin(), inOrder.end(), [](auto *a, auto *b) { return a->front().start < b->front().start; });
  for (auto *work : inOrder) {
    uint64_t start = work->front().start, end = 0;
    for (const Work &each : *work) {
      end = std::max(end, each.end);
      auto &[calls, ms] = kernels[each.name];
      calls += 1;
      ms += (each.end - each.start) / 1e6;
    }
    busy.push_back(busyTime(*work));
    // A gap of half a step or more means that the GPU waited for the host.
    if (previousEnd != 0 && start - previousEnd < (end - start) / 2) periods.push_back((start - previousStart) / 1e6);
    previousStart = start;
    previousEnd = end;
  }
  std::vector<std::pair<double, std::string>> order;
  for (auto &[name, sum] : kernels) order.push_back({-sum.second, name});
  std::sort(order.begin(), order.end());
  size_t count = replays.size();
  fprintf(file, "{\"replays\": %zu, \"period_ms\": %.4f, \"busy_ms\": %.4f, \"kernels\": [", count, median(periods),
          median(busy));
  for (size_t i = 0; i < order.size(); i++) {
    auto &[calls, ms] = kernels[order[i].second];
    fprintf(file, "%s\n {\"name\": \"%s\", \"calls\": %.2f, \"ms\": %.5f}", i == 0 ? "" : ",", order[i].second.c_str(),
            double(calls) / count, ms / count);
  }
  fprintf(file, "\n]}\n");
  fclose(file);
}

} // namespace

extern "C" int InitializeInjection(void) {
  if (cuptiActivityRegisterCallbacks(provideBuffer, readBuffer) != CUPTI_SUCCESS) return 0;
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
  cuptiActivityFlushPeriod(200); // milliseconds
  atexit(report);
  return 1;
}
