// Finished clips and retained contexts: from HBM to DRAM to NAND to nothing.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "channels.hpp"
#include "store.hpp"
#include "tree.hpp"

namespace dcsim {

// Finished clips and retained contexts.
class Objects {
  public:
    Objects(const Tables& tables, Timeline& timeline, Pools& pools, Channels& channels)
        : tables_(tables), timeline_(timeline), pools_(pools), channels_(channels), dues_(1, kNoDue) {
        const std::vector<bool> bring = tables.classes_that_bring();
        for (std::size_t c = 0; c < tables.classes.size(); ++c) add_accounts(c, bring[c]);
        dues_ = WinnerTree<Due>(shelves_.size(), kNoDue);
    }

    // Stores an object of a request that ends at `t` on `replica`.
    void put(i64 t, i64 klass, Category kind, i64 bytes, std::size_t replica) {
        const ReplicaRow& r = tables_.replicas[replica];
        const auto [dram_time, nand_time] = times(klass, kind);
        if (bytes == 0 || (dram_time == 0 && nand_time == 0)) return;
        const std::size_t dram = shelf(klass, kind, r.dram);
        if (dram_time > 0) {
            if (pools_.room_for(t, r.dram, bytes)) {
                take(t, dram, bytes);
                carry(t, create({bytes, replica, dram, kNone, State::kToDram, 0, 0}), r.offload);
                return;
            }
            flow(t, dram, kSpilled, bytes);
        }
        if (nand_time == 0) {
            flow(t, dram, kDropped, bytes);
            return;
        }
        const std::size_t nand = shelf(klass, kind, r.store);
        if (!make_room(t, nand, bytes)) return;
        take(t, nand, bytes);
        carry(t, create({bytes, replica, kNone, nand, State::kToNand, 0, 0}), r.offload, r.spill);
    }
    // The account (of the pools) of a class's objects of a kind in a pool.
    std::size_t account(i64 klass, Category kind, i64 pool) const { return shelves_[shelf(klass, kind, pool)].account; }

    // A transfer of the object has come to its end.
    void arrive(i64 t, std::size_t id) {
        Object& o = slab_[id];
        if (o.state == State::kLost) {
            release(id);
            return;
        }
        if (o.state == State::kMoving) {
            flow(t, o.dram, kMoved, o.bytes);
            pools_.change(t, shelves_[o.dram].account, -o.bytes);
            o.dram = kNone;
        }
        o.state = o.state == State::kToDram ? State::kInDram : State::kInNand;
        settle(t, id);
    }

    // The object whose time in its tier is up first.
    const Due& next_due() const { return dues_.top_key(); }

    void expire(i64 t) {
        const std::size_t s = dues_.top();
        const std::size_t id = shelves_[s].residents.front();
        Object& o = slab_[id];
        pop(s);
        const i64 nand_time = times(shelves_[s].klass, shelves_[s].kind).second;
        if (o.state == State::kInNand || nand_time == 0) {
            drop(t, s, kExpired, id);
            return;
        }
        const ReplicaRow& r = tables_.replicas[o.replica];
        const std::size_t nand = shelf(shelves_[s].klass, shelves_[s].kind, r.store);
        if (!make_room(t, nand, o.bytes)) {
            drop(t, s, kMoved, id);
            return;
        }
        take(t, nand, o.bytes);
        o.nand = nand;
        o.state = State::kMoving;
        carry(t, id, r.spill);
    }

    // Takes objects out of a pool that shrank until it holds no more than it may:
    // contexts, then artifacts, oldest first, then what is on its way there.
    void shrink(i64 t, i64 pool) {
        std::vector<std::array<i64, 3>> candidates;
        for (std::size_t id = 0; id < slab_.size(); ++id) {
            const Object& o = slab_[id];
            if (o.state == State::kFree || o.state == State::kLost) continue;
            const bool arriving = o.state == State::kToDram || o.state == State::kToNand;
            const bool here = o.dram != kNone && shelves_[o.dram].pool == pool;
            if (here && !arriving)
                candidates.push_back({shelves_[o.dram].kind == kCache ? 0 : 1, o.resident, static_cast<i64>(id)});
            else if (here)
                candidates.push_back({2, o.transfer, static_cast<i64>(id)});
            if (o.nand == kNone || shelves_[o.nand].pool != pool) continue;
            if (o.state == State::kInNand)
                candidates.push_back({shelves_[o.nand].kind == kCache ? 0 : 1, o.resident, static_cast<i64>(id)});
            else
                candidates.push_back({2, o.transfer, static_cast<i64>(id)});
        }
        std::sort(candidates.begin(), candidates.end());
        for (const auto& c : candidates)
            if (pools_.used(pool) > pools_.capacity(pool)) lose(t, static_cast<std::size_t>(c[2]));
    }

  private:
    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
    enum class State : char { kToDram, kInDram, kMoving, kToNand, kInNand, kLost, kFree };
    struct Object {
        i64 bytes;
        std::size_t replica, dram, nand;  // dram, nand: rows of shelves_
        State state;
        i64 resident, transfer;  // sequences
    };
    // The objects of one class and kind in one pool, oldest first: the first to
    // be due is also the first to be evicted.
    struct Shelf {
        i64 klass, pool;
        Category kind;
        i64 time;
        std::size_t account;
        std::deque<std::size_t> residents;
        i64 settled = 0;  // bytes of the residents
    };

    std::pair<i64, i64> times(i64 klass, Category kind) const {
        const Class& c = tables_.classes[static_cast<std::size_t>(klass)];
        return kind == kArtifacts ? std::pair{c.artifact_dram, c.artifact_nand} : std::pair{c.context_dram, c.context_nand};
    }

    void add_accounts(std::size_t klass, bool brings) {
        const Class& c = tables_.classes[klass];
        const Service& s = tables_.services[static_cast<std::size_t>(c.service)];
        for (const bool nand : {false, true})
            for (i64 r = s.replica; r < s.replica + s.replicas; ++r) {
                const ReplicaRow& row = tables_.replicas[static_cast<std::size_t>(r)];
                const i64 pool = nand ? row.store : row.dram;
                if (index_.count({static_cast<i64>(klass), kArtifacts, pool})) continue;
                for (const Category kind : {kArtifacts, kCache, kAdapters}) {
                    if (kind == kAdapters && !brings) continue;
                    const auto [in_dram, in_nand] = times(static_cast<i64>(klass), kind);
                    index_[{static_cast<i64>(klass), kind, pool}] = shelves_.size();
                    shelves_.push_back({static_cast<i64>(klass), pool, kind, nand ? in_nand : in_dram,
                                        pools_.add_account({pool, kind, c.service, static_cast<i64>(klass)}), {}, 0});
                    by_pool_[pool].push_back(shelves_.size() - 1);
                }
            }
    }
    std::size_t shelf(i64 klass, Category kind, i64 pool) const { return index_.at({klass, kind, pool}); }

    void carry(i64 t, std::size_t id, i64 path, i64 then = -1) {
        slab_[id].transfer = channels_.start(t, slab_[id].bytes, {Bound::kObject, id, 0}, path, then);
    }

    std::size_t create(Object o) {
        if (free_.empty()) {
            slab_.push_back(o);
            return slab_.size() - 1;
        }
        const std::size_t id = free_.back();
        free_.pop_back();
        slab_[id] = o;
        return id;
    }

    void flow(i64 t, std::size_t s, Cause cause, i64 bytes) {
        timeline_.flow(pools_.timeline_account(shelves_[s].account), cause, t, bytes);
    }
    void take(i64 t, std::size_t s, i64 bytes) {
        flow(t, s, kTaken, bytes);
        pools_.change(t, shelves_[s].account, bytes);
    }
    void give(i64 t, std::size_t s, Cause cause, i64 bytes) {
        flow(t, s, cause, bytes);
        pools_.change(t, shelves_[s].account, -bytes);
    }
    void drop(i64 t, std::size_t s, Cause cause, std::size_t id) {
        give(t, s, cause, slab_[id].bytes);
        release(id);
    }
    void release(std::size_t id) {
        slab_[id].state = State::kFree;
        free_.push_back(id);
    }

    void lose(i64 t, std::size_t id) {
        Object& o = slab_[id];
        if (o.dram != kNone) give(t, o.dram, kLost, o.bytes);
        if (o.nand != kNone) give(t, o.nand, kLost, o.bytes);
        if (o.state == State::kInDram || o.state == State::kInNand) {
            const std::size_t s = o.state == State::kInDram ? o.dram : o.nand;
            auto& residents = shelves_[s].residents;
            residents.erase(std::find(residents.begin(), residents.end(), id));
            shelves_[s].settled -= o.bytes;
            refresh(s);
            release(id);
        } else {
            o.state = State::kLost;  // its slot is free when the transfer ends
        }
    }

    void settle(i64 t, std::size_t id) {
        Object& o = slab_[id];
        const std::size_t s = o.state == State::kInDram ? o.dram : o.nand;
        o.resident = residents_++;
        Shelf& shelf = shelves_[s];
        shelf.residents.push_back(id);
        shelf.settled += o.bytes;
        due_.resize(std::max(due_.size(), id + 1));
        due_[id] = {t > kNever - shelf.time ? kNever - 1 : t + shelf.time, o.resident};
        if (shelf.residents.size() == 1) dues_.set(s, due_[id]);
    }
    void pop(std::size_t s) {
        Shelf& shelf = shelves_[s];
        shelf.settled -= slab_[shelf.residents.front()].bytes;
        shelf.residents.pop_front();
        refresh(s);
    }
    void refresh(std::size_t s) {
        const Shelf& shelf = shelves_[s];
        dues_.set(s, shelf.residents.empty() ? kNoDue : due_[shelf.residents.front()]);
    }

    bool make_room(i64 t, std::size_t nand, i64 bytes) {
        const i64 pool = shelves_[nand].pool;
        if (pools_.room_for(t, pool, bytes)) return true;
        i64 evictable = 0;
        for (const std::size_t s : by_pool_.at(pool))
            if (shelves_[s].kind == kCache) evictable += shelves_[s].settled;
        if (bytes > pools_.capacity(pool) - pools_.used(pool) + evictable) {
            flow(t, nand, kDropped, bytes);
            return false;
        }
        while (!pools_.room(pool, bytes)) evict_oldest(t, pool);
        return true;
    }
    void evict_oldest(i64 t, i64 pool) {
        std::size_t best = kNone;
        for (const std::size_t s : by_pool_.at(pool)) {
            if (shelves_[s].kind != kCache || shelves_[s].residents.empty()) continue;
            if (best == kNone || oldest(s) < oldest(best)) best = s;
        }
        const std::size_t id = shelves_[best].residents.front();
        pop(best);
        drop(t, best, kEvicted, id);
    }
    i64 oldest(std::size_t s) const { return slab_[shelves_[s].residents.front()].resident; }

    const Tables& tables_;
    Timeline& timeline_;
    Pools& pools_;
    Channels& channels_;
    std::map<std::array<i64, 3>, std::size_t> index_;
    std::map<i64, std::vector<std::size_t>> by_pool_;
    std::vector<Shelf> shelves_;
    std::vector<Object> slab_;
    std::vector<Due> due_;
    std::vector<std::size_t> free_;
    WinnerTree<Due> dues_;
    i64 residents_ = 0;
};

}  // namespace dcsim
