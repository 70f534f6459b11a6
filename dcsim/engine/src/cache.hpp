// One cache of prefix blocks, fed with the requests of a log in order: how many
// leading blocks of each it holds. Exactly what a cache of single blocks would
// give, by run. The rules are in docs/hitrate.md.
#pragma once

#include <queue>
#include <string>

#include "forest.hpp"

namespace dcsim {

enum class Eviction { kLru, kLfu, kFifo };

inline Eviction eviction(const std::string& name) {
    if (name == "lru") return Eviction::kLru;
    if (name == "lfu") return Eviction::kLfu;
    if (name == "fifo") return Eviction::kFifo;
    throw std::invalid_argument("policy: lru, lfu or fifo, not " + name);
}

// Least recently used. The queue is the log itself: a request uses its whole path, so the runs
// last used by the oldest request are the lower end of its path, and go from its end upward.
class LruCache {
  public:
    LruCache(const Forest& forest, i64 capacity) : ends_(forest.ends()), capacity_(capacity) {
        for (const Forest::Run& run : forest.runs()) held_.push_back({run.parent, run.blocks, 0, -1});
    }

    // Looks request r up, then keeps its blocks; gives the leading blocks that were held.
    i64 use(i32 r) {
        i64 hits = 0, blocks = 0;
        for (i32 run = ends_[at(r)]; run >= 0; run = held_[at(run)].parent) {
            Held& h = held_[at(run)];
            hits += h.held;
            blocks += h.blocks;
            h.held = h.blocks;
            h.last = r;
        }
        used_ += blocks - hits;
        while (used_ > capacity_) evict();
        return hits;
    }

  private:
    struct Held {
        i32 parent, blocks, held, last;
    };

    void evict() {
        if (victim_ < 0 || held_[at(victim_)].last != oldest_) {
            victim_ = ends_[at(++oldest_)];
            return;
        }
        Held& h = held_[at(victim_)];
        const i32 gone = static_cast<i32>(std::min<i64>(h.held, used_ - capacity_));
        h.held -= gone;
        used_ -= gone;
        if (h.held == 0) victim_ = h.parent;
    }

    const std::vector<i32>& ends_;
    i64 capacity_, used_ = 0;
    std::vector<Held> held_;
    i32 oldest_ = -1, victim_ = -1;
};

// The block that goes is a leaf, one without a held block after it: the one used least often or
// inserted first. Blocks of a run that were inserted at once are a layer and go together.
template <Eviction policy>
class RankedCache {
  public:
    RankedCache(const Forest& forest, i64 capacity) : forest_(forest), capacity_(capacity), held_(forest.runs().size()) {}

    i64 use(i32 r) {
        const i32 end = forest_.ends()[at(r)];
        now_ = r;
        i64 hits = 0;
        for (i32 run = end; run >= 0; run = parent(run)) {
            Held& h = held_[at(run)];
            hits += h.held;
            ++h.uses;
            h.last = r;  // which also keeps it from being evicted now
        }
        const i64 room = make_room(forest_.through(end) - hits);
        insert(end, hits + room);
        used_ += room;
        return hits;
    }

  private:
    struct Held {
        i32 held = 0, children = 0, uses = 0, last = -1, layer = -1;
    };
    struct Layer {
        i32 above;  // blocks of the run before it
        i32 stamp;  // FIFO: the request that inserted it; LFU: uses of the run before that
        i32 below;  // the layer before it in the run
    };
    struct Leaf {
        i64 key;
        i32 run;
        bool operator>(const Leaf& o) const { return key > o.key; }
    };

    i32 parent(i32 run) const { return forest_.runs()[at(run)].parent; }

    // No two leaves have one key: the blocks that a request uses, or inserts, are a chain.
    i64 key(const Held& h) const {
        const i32 stamp = layers_[at(h.layer)].stamp;
        if (policy == Eviction::kFifo) return stamp;
        return (i64{h.uses - stamp} << 32) | h.last;
    }
    void enter(i32 run) { leaves_.push({key(held_[at(run)]), run}); }

    // Evicts until so many blocks find room, or none but the request's own is left; gives how
    // many do.
    i64 make_room(i64 blocks) {
        while (capacity_ - used_ < blocks && !leaves_.empty()) {
            const Leaf leaf = leaves_.top();
            Held& h = held_[at(leaf.run)];
            if (h.held == 0 || h.children > 0 || h.last == now_ || key(h) != leaf.key) {
                leaves_.pop();  // what it was once
                continue;
            }
            const Layer layer = layers_[at(h.layer)];
            const i32 gone = static_cast<i32>(std::min<i64>(h.held - layer.above, blocks - (capacity_ - used_)));
            h.held -= gone;
            used_ -= gone;
            if (h.held > layer.above) continue;
            leaves_.pop();
            drop(h.layer);
            h.layer = layer.below;
            if (h.held > 0) enter(leaf.run);
            else if (const i32 up = parent(leaf.run); up >= 0 && --held_[at(up)].children == 0) enter(up);
        }
        return std::min(blocks, capacity_ - used_);
    }

    // Holds the first `blocks` of the path that ends here.
    void insert(i32 end, i64 blocks) {
        i32 deepest = -1;
        for (i32 run = end; run >= 0; run = parent(run)) {
            const Forest::Run& shape = forest_.runs()[at(run)];
            Held& h = held_[at(run)];
            const i32 wanted = static_cast<i32>(std::clamp<i64>(blocks - shape.above, 0, shape.blocks));
            if (wanted > 0 && deepest < 0) deepest = run;
            if (wanted == h.held) continue;
            if (h.held == 0 && shape.parent >= 0) ++held_[at(shape.parent)].children;
            h.layer = create({h.held, policy == Eviction::kFifo ? now_ : h.uses - 1, h.layer});
            h.held = wanted;
        }
        if (deepest >= 0 && held_[at(deepest)].children == 0) enter(deepest);
    }

    i32 create(Layer layer) {
        if (free_ < 0) {
            layers_.push_back(layer);
            return static_cast<i32>(layers_.size()) - 1;
        }
        const i32 i = free_;
        free_ = layers_[at(i)].below;
        layers_[at(i)] = layer;
        return i;
    }
    void drop(i32 layer) {
        layers_[at(layer)].below = free_;
        free_ = layer;
    }

    const Forest& forest_;
    i64 capacity_, used_ = 0;
    std::vector<Held> held_;
    std::vector<Layer> layers_;
    std::priority_queue<Leaf, std::vector<Leaf>, std::greater<>> leaves_;
    i32 now_ = -1, free_ = -1;
};

template <class Cache>
std::vector<i64> hits(const Forest& forest, i64 capacity) {
    Cache cache(forest, capacity);
    std::vector<i64> out;
    out.reserve(forest.ends().size());
    for (i32 r = 0; r < static_cast<i32>(forest.ends().size()); ++r) out.push_back(cache.use(r));
    return out;
}

// By request: its leading blocks that a cache of so many blocks holds when it comes.
inline std::vector<i64> hits(const Forest& forest, Eviction policy, i64 capacity) {
    if (capacity < 0) throw std::invalid_argument("capacity: less than 0");
    switch (policy) {
        case Eviction::kLru: return hits<LruCache>(forest, capacity);
        case Eviction::kLfu: return hits<RankedCache<Eviction::kLfu>>(forest, capacity);
        case Eviction::kFifo: return hits<RankedCache<Eviction::kFifo>>(forest, capacity);
    }
    return {};
}

}  // namespace dcsim
