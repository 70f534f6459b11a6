// What is written down of each request; and how requests come, and go once they are over, in slices.
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "column.hpp"
#include "graph.hpp"
#include "tables.hpp"

namespace dcsim {

// Where a brought node was at a request's first admission; at a later one, if not in HBM.
enum Source : std::size_t { kFromHbm, kFromDram, kFromNand, kFromLibrary, kAgain };
inline constexpr std::array<const char*, 5> kSources{"brought_hbm", "brought_dram", "brought_nand", "brought_library", "brought_again"};

class RequestRows {
  public:
    Column<i64> arrived, start, first, end;
    Column<std::int8_t> outcome;
    Column<std::int32_t> preemptions, replica;
    Column<i64> hit_hbm, hit_dram, hit_nand, hit_again;  // where content is known
    std::array<Column<i64>, kSources.size()> brought;    // where anything is
    Column<i64> handed;                                  // where anything is handed over
    Column<std::int32_t> swaps;                          // where a service swaps

    RequestRows(const Tables& tables, const Graph& graph)
        : whole_(graph.any()), content_(!tables.nodes.empty()), bringing_(!tables.brought.empty()), handing_(!tables.requests.handover.empty()) {
        for (const Service& s : tables.services) swapping_ = swapping_ || s.swap == 1;
        come(tables.requests);
        for (std::size_t q = 0; whole_ && q < start.size(); ++q)
            if (graph.waits(q)) {
                arrived[q] = -1;
                outcome[q] = kAwaited;
            }
    }

    // Requests that have been added to those that were known.
    void come(const Requests& requests) {
        const std::size_t known = start.size(), more = requests.arrival.size() - known;
        each([&](const char*, auto& column, auto value) { column.add(more, value); });
        for (std::size_t q = known; q < start.size(); ++q) arrived[q] = requests.arrival[q];
        slices_.push_back(start.size());
    }

    // Whether there is an oldest slice, and nothing will happen any more to any of its requests. Of
    // requests that wait for others all are needed to the end.
    bool over() {
        if (whole_ || slices_.empty()) return false;
        while (over_ < slices_.front() && is_over(outcome[over_])) ++over_;
        return over_ == slices_.front();
    }
    // Calls `put(name, values)` for the columns of the oldest slice, and forgets it; says where it ended.
    template <class Put>
    std::size_t take(Put&& put) {
        const std::size_t last = slices_.front();
        slices_.pop_front();
        take_to(last, put);
        return last;
    }
    // The same of all that is here.
    template <class Put>
    void take_rest(Put&& put) {
        slices_.clear();
        take_to(start.size(), put);
    }

  private:
    static bool is_over(std::int8_t outcome) { return outcome == kCompleted || outcome == kRejected; }

    template <class Put>
    void take_to(std::size_t last, Put&& put) {
        each([&](const char* name, auto& column, auto) {
            put(name, column.take(begin_, last));
            column.forget(last);
        });
        begin_ = over_ = last;
    }

    // Calls `act(name, column, value before anything has happened)` for those that there are.
    template <class Act>
    void each(Act&& act) {
        act("arrived", arrived, i64{-1});
        act("start", start, i64{-1});
        act("first", first, i64{-1});
        act("end", end, i64{-1});
        act("outcome", outcome, std::int8_t{kQueued});
        act("preemptions", preemptions, std::int32_t{0});
        act("replica", replica, std::int32_t{-1});
        if (content_) {
            act("hit_hbm", hit_hbm, i64{0});
            act("hit_dram", hit_dram, i64{0});
            act("hit_nand", hit_nand, i64{0});
            act("hit_again", hit_again, i64{0});
        }
        for (std::size_t s = 0; bringing_ && s < kSources.size(); ++s) act(kSources[s], brought[s], i64{0});
        if (handing_) act("handed", handed, i64{-1});
        if (swapping_) act("swaps", swaps, std::int32_t{0});
    }

    bool whole_, content_, bringing_, handing_, swapping_ = false;
    std::deque<std::size_t> slices_;  // their ends
    std::size_t begin_ = 0, over_ = 0;
};

}  // namespace dcsim
