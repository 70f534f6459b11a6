// Requests that wait for others: sessions, forks and joins, pipelines.
#pragma once

#include <algorithm>
#include <functional>
#include <queue>
#include <vector>

#include "store.hpp"
#include "tables.hpp"

namespace dcsim {

class Graph {
  public:
    // Where no request waits nothing is kept.
    explicit Graph(const Requests& requests) : requests_(requests) {
        if (requests.after_start.empty()) return;
        const auto n = static_cast<std::size_t>(requests.size());
        open_.resize(n);
        next_start_.assign(n + 1, 0);
        for (std::size_t q = 0; q < n; ++q)
            open_[q] = static_cast<std::int32_t>(requests.after_start[q + 1] - requests.after_start[q]);
        for (const i64 before : requests.after) ++next_start_[static_cast<std::size_t>(before) + 1];
        for (std::size_t q = 0; q < n; ++q) next_start_[q + 1] += next_start_[q];
        next_.resize(requests.after.size());
        std::vector<std::size_t> at(next_start_.begin(), next_start_.end() - 1);
        for (std::size_t q = 0; q < n; ++q)
            for (i64 i = requests.after_start[q]; i < requests.after_start[q + 1]; ++i)
                next_[at[static_cast<std::size_t>(requests.after[static_cast<std::size_t>(i)])]++] = static_cast<i64>(q);
    }

    bool any() const { return !open_.empty(); }
    bool waits(std::size_t q) const { return any() && requests_.after_start[q] < requests_.after_start[q + 1]; }

    // The last row that a request waits for; -1: none.
    i64 before(std::size_t q) const {
        return waits(q) ? requests_.after[static_cast<std::size_t>(requests_.after_start[q + 1]) - 1] : -1;
    }

    // Calls `act(row)` for all that wait for a request, in order of rows.
    template <class Act>
    void each(i64 request, Act&& act) const {
        if (!any()) return;
        const auto q = static_cast<std::size_t>(request);
        for (std::size_t i = next_start_[q]; i < next_start_[q + 1]; ++i) act(next_[i]);
    }

    // The next of those that have waited to arrive: (time, row).
    Due next() const { return ready_.empty() ? kNoDue : ready_.top(); }
    void pop() { ready_.pop(); }

    // A request has completed at `t`: what waited for it alone comes in its time.
    void completed(i64 t, i64 request) {
        each(request, [&](i64 q) {
            const auto row = static_cast<std::size_t>(q);
            if (--open_[row] != 0) return;  // below 0: abandoned
            const i64 delay = requests_.delay[row];
            if (delay > kNever - t) return;
            ready_.push({std::max(requests_.arrival[row], t + delay), q});
        });
    }
    // A request will not complete: calls `abandon(row)` for all that wait for it, near or far.
    template <class Abandon>
    void failed(i64 request, Abandon&& abandon) {
        std::vector<i64> gone{request};
        while (!gone.empty()) {
            const i64 before = gone.back();
            gone.pop_back();
            each(before, [&](i64 q) {
                std::int32_t& open = open_[static_cast<std::size_t>(q)];
                if (open < 0) return;
                open = kGone;
                abandon(q);
                gone.push_back(q);
            });
        }
    }

  private:
    static constexpr std::int32_t kGone = std::int32_t{-1} << 30;

    const Requests& requests_;
    std::vector<std::int32_t> open_;  // how many it still waits for; below 0: abandoned
    std::vector<std::size_t> next_start_;
    std::vector<i64> next_;
    std::priority_queue<Due, std::vector<Due>, std::greater<>> ready_;
};

}  // namespace dcsim
