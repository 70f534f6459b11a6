// One cache of prefix blocks, fed with the requests of a log in order: how many
// leading blocks of each it holds. Exactly what a cache of single blocks would
// give, by run. The rules are in docs/hitrate.md.
#pragma once

#include <deque>
#include <queue>
#include <string>

#include "eviction.hpp"
#include "forest.hpp"

namespace dcsim {

// Least recently used. A use takes its whole path, so the runs that were last used by the oldest
// use are the lower end of its path: they go from its end upward, and no order but that of the
// uses has to be kept.
class LruCache {
  public:
    LruCache(const Forest& forest, i64 capacity) : capacity_(capacity) {
        for (const Forest::Run& run : forest.runs()) held_.push_back({run.parent, run.blocks, 0, -1});
    }

    // Looks up the path that ends with this run, then keeps it; gives its leading blocks that were
    // held.
    i64 use(i32 end) {
        i64 hits = 0, blocks = 0;
        for (i32 run = end; run >= 0; run = held_[at(run)].parent) {
            Held& h = held_[at(run)];
            hits += h.held;
            blocks += h.blocks;
            h.held = h.blocks;
            h.last = now_;
        }
        ++now_;
        later_.push_back(end);
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
            ++oldest_;
            victim_ = later_.front();
            later_.pop_front();
            return;
        }
        Held& h = held_[at(victim_)];
        const i32 gone = static_cast<i32>(std::min<i64>(h.held, used_ - capacity_));
        h.held -= gone;
        used_ -= gone;
        if (h.held == 0) victim_ = h.parent;
    }

    i64 capacity_, used_ = 0;
    std::vector<Held> held_;
    std::deque<i32> later_;  // ends of the uses after the oldest
    i32 now_ = 0, oldest_ = -1, victim_ = -1;
};

// The block that goes is a leaf, one that no held block continues, and none of the path in use.
// Blocks of a run that were inserted at once are a layer, and go one after the other.
template <class Order>
class RankedCache {
  public:
    RankedCache(const Forest& forest, i64 capacity)
        : runs_(forest.runs()), capacity_(capacity), held_(forest.runs().size()) {}

    // As of LruCache.
    i64 use(i32 end) {
        i64 hits = 0;
        for (i32 run = end; run >= 0; run = runs_[at(run)].parent) {
            Held& h = held_[at(run)];
            hits += h.held;
            ++h.uses;
            h.last = now_;
        }
        const i64 blocks = end < 0 ? 0 : i64{runs_[at(end)].above} + runs_[at(end)].blocks;
        const i64 room = make_room(blocks - hits);
        insert(end, hits + room);
        used_ += room;
        ++now_;
        return hits;
    }

  private:
    struct Held {
        i32 held = 0, children = 0, uses = 0, last = -1, layer = -1;
    };
    struct Layer {
        i32 above;  // blocks of the run before it
        i32 inserted;  // by which use
        i32 before;    // uses of the run before that
        i32 below;     // the layer before it in the run
    };
    struct Leaf {
        Key key;
        i32 run;
        bool operator>(const Leaf& o) const { return key > o.key; }
    };

    Key key(const Held& h) const {
        const Layer& layer = layers_[at(h.layer)];
        return Order::key({layer.inserted, h.uses - layer.before, h.last});
    }
    void enter(i32 run) { leaves_.push({key(held_[at(run)]), run}); }

    // Evicts until so many blocks find room, or none but those in use is left; gives how many do.
    i64 make_room(i64 blocks) {
        while (capacity_ - used_ < blocks && !leaves_.empty()) {
            const Leaf leaf = leaves_.top();
            Held& h = held_[at(leaf.run)];
            if (h.held == 0 || h.children > 0 || h.last == now_ || key(h) != leaf.key) {
                leaves_.pop();  // what it was once, or what will be entered again after this use
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
            const i32 parent = runs_[at(leaf.run)].parent;
            if (h.held > 0) enter(leaf.run);
            else if (parent >= 0 && --held_[at(parent)].children == 0) enter(parent);
        }
        return std::min(blocks, capacity_ - used_);
    }

    // Holds the first `blocks` of the path that ends here.
    void insert(i32 end, i64 blocks) {
        i32 deepest = -1;
        for (i32 run = end; run >= 0; run = runs_[at(run)].parent) {
            const Forest::Run& shape = runs_[at(run)];
            Held& h = held_[at(run)];
            const i32 wanted = static_cast<i32>(std::clamp<i64>(blocks - shape.above, 0, shape.blocks));
            if (wanted > 0 && deepest < 0) deepest = run;
            if (wanted == h.held) continue;
            if (h.held == 0 && shape.parent >= 0) ++held_[at(shape.parent)].children;
            h.layer = create({h.held, now_, h.uses - 1, h.layer});
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

    const std::vector<Forest::Run>& runs_;
    i64 capacity_, used_ = 0;
    std::vector<Held> held_;
    std::vector<Layer> layers_;
    std::priority_queue<Leaf, std::vector<Leaf>, std::greater<>> leaves_;
    i32 now_ = 0, free_ = -1;
};

template <class Cache>
std::vector<i64> hits(const Forest& forest, i64 capacity) {
    Cache cache(forest, capacity);
    std::vector<i64> out;
    out.reserve(forest.ends().size());
    for (const i32 end : forest.ends()) out.push_back(cache.use(end));
    return out;
}

// By request: its leading blocks that a cache of so many blocks holds when it comes.
inline std::vector<i64> hits(const Forest& forest, const std::string& policy, i64 capacity) {
    if (capacity < 0) throw std::invalid_argument("capacity: less than 0");
    const auto found = std::find(kEvictions.begin(), kEvictions.end(), policy);
    if (found == kEvictions.end()) throw std::invalid_argument("policy: there is no " + policy);
    if (found == kEvictions.begin()) return hits<LruCache>(forest, capacity);  // the same, faster
    return visit(found - kEvictions.begin(), [&](auto order) { return hits<RankedCache<decltype(order)>>(forest, capacity); });
}

}  // namespace dcsim
