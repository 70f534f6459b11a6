// What the machine allows: a heap and an array touched as often as an engine
// with that many events must, and nothing else. For `dcsim bench`.
#pragma once

#include <chrono>
#include <queue>
#include <vector>

#include "ticks.hpp"

namespace dcsim {

// Seconds for `events` pops and pushes on a heap of `live` entries, each with
// one read and one write in a table of `rows` rows of 8 values.
inline double floor_seconds(i64 events, i64 live, i64 rows) {
    struct Entry {
        i64 time, row;
        bool operator>(const Entry& o) const { return time > o.time; }
    };
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> heap;
    std::vector<i64> table(static_cast<std::size_t>(rows) * 8, 1);
    std::uint64_t random = 88172645463325252ULL;
    const auto draw = [&] {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return static_cast<i64>(random >> 40);
    };
    for (i64 i = 0; i < live; ++i) heap.push({draw(), i});
    const auto begin = std::chrono::steady_clock::now();
    for (i64 i = 0; i < events; ++i) {
        const Entry entry = heap.top();
        heap.pop();
        i64* row = &table[static_cast<std::size_t>(i * 4 % rows) * 8];
        row[1] = entry.time;
        row[2] += row[0];
        heap.push({entry.time + draw() + row[2] % 2, entry.row});
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    return heap.top().time >= 0 ? spent.count() : 0.0;
}

}  // namespace dcsim
