// LRU at all capacities in one pass. A cache of c blocks holds the c that were
// used last, so a use hits in every cache larger than the block's place in that
// order: its stack distance. A run is an interval of places, and a use of it an
// interval of distances.
#pragma once

#include "forest.hpp"

namespace dcsim {

// Sums of prefixes of values that change (Fenwick, 1994).
class PrefixSums {
  public:
    explicit PrefixSums(std::size_t size) : tree_(size + 1, 0) {}

    void add(std::size_t i, i64 value) {
        for (++i; i < tree_.size(); i += i & -i) tree_[i] += value;
    }
    // Of the values 0, ..., i.
    i64 through(std::size_t i) const {
        i64 sum = 0;
        for (++i; i > 0; i -= i & -i) sum += tree_[i];
        return sum;
    }

  private:
    std::vector<i64> tree_;
};

// By capacity 0, 1, ..., forest.blocks(): the hits of an LRU cache of so many blocks, over all
// requests. Of request r only the first counted[r] blocks count as hits.
inline std::vector<i64> lru_hits(const Forest& forest, std::span<const i64> counted) {
    const std::size_t requests = forest.ends().size();
    if (counted.size() != requests) throw std::invalid_argument("counted: one a request");
    // hits[c] - hits[c - 1] is the number of intervals that cover place c; twice summed below.
    std::vector<i64> hits(at(forest.blocks()) + 2, 0);
    std::vector<i32> last(forest.runs().size(), -1), path;
    PrefixSums used(requests);  // by request: blocks of the runs that it used last
    i64 held = 0;
    for (std::size_t r = 0; r < requests; ++r) {
        path.clear();
        for (i32 run = forest.ends()[r]; run >= 0; run = forest.runs()[at(run)].parent) path.push_back(run);
        i64 seen = 0;
        std::size_t i = path.size();
        // From the head on, by the request that used them last. Its runs that are not on this
        // path come after those that are: they lie below.
        while (i > 0 && last[at(path[i - 1])] >= 0) {
            const i32 user = last[at(path[i - 1])];
            i64 place = held - used.through(at(user)), group = 0;
            for (; i > 0 && last[at(path[i - 1])] == user; --i) {
                const Forest::Run& run = forest.runs()[at(path[i - 1])];
                last[at(path[i - 1])] = static_cast<i32>(r);
                const i64 count = std::clamp<i64>(counted[r] - run.above, 0, run.blocks);
                ++hits[at(place + group) + 1];
                --hits[at(place + group + count) + 1];
                group += run.blocks;
            }
            used.add(at(user), -group);
            seen += group;
        }
        for (; i > 0; --i) last[at(path[i - 1])] = static_cast<i32>(r);
        const i64 all = forest.through(forest.ends()[r]);
        used.add(r, all);
        held += all - seen;
    }
    for (int twice = 0; twice < 2; ++twice)
        for (std::size_t c = 1; c < hits.size(); ++c) hits[c] += hits[c - 1];
    hits.pop_back();
    return hits;
}

}  // namespace dcsim
