// Preempted requests that lie in DRAM, as they are, until they are brought back.
#pragma once

#include <array>
#include <map>
#include <vector>

#include "batch.hpp"
#include "store.hpp"

namespace dcsim {

class Swaps {
  public:
    struct Swapped {
        Running state;    // as it left the batch
        i64 live, hold;   // in the step that it was about to run
        i64 klass;
        std::size_t replica;
        bool come = false;  // its bytes are in DRAM
        bool held = true;   // they, or their room
        i64 loading = -1;   // it is on its way back
    };

    Swaps(const Tables& tables, Timeline& timeline, Pools& pools) : tables_(tables), timeline_(timeline), pools_(pools) {
        for (std::size_t c = 0; c < tables.classes.size(); ++c) {
            const auto klass = static_cast<i64>(c);
            const i64 service = tables.classes[c].service;
            const Service& s = tables.services[static_cast<std::size_t>(service)];
            for (i64 r = s.replica; s.swap == 1 && r < s.replica + s.replicas; ++r) {
                const i64 pool = tables.replicas[static_cast<std::size_t>(r)].dram;
                if (!accounts_.count({klass, pool})) accounts_[{klass, pool}] = pools.add_account({pool, kLive, service, klass});
            }
        }
    }

    bool any() const { return !accounts_.empty(); }

    // Takes room for a request in the DRAM of its replica; its number, -1 if there is no room.
    i64 take(i64 t, const Swapped& swapped) {
        const i64 pool = dram(swapped);
        if (!pools_.room_for(t, pool, swapped.live)) {
            flow(t, swapped, kDropped);
            return -1;
        }
        flow(t, swapped, kTaken);
        pools_.change(t, account(swapped), swapped.live);
        swapped_.emplace(next_, swapped);
        return next_++;
    }
    // nullptr: it is gone.
    Swapped* find(i64 number) {
        const auto it = swapped_.find(number);
        return it == swapped_.end() ? nullptr : &it->second;
    }
    const Swapped& at(i64 number) const { return swapped_.at(number); }
    // Its bytes leave, if they are still there: back to HBM (`moved`), or `lost`.
    void free(i64 t, Swapped& swapped, Cause cause) {
        if (!swapped.held) return;
        swapped.held = false;
        flow(t, swapped, cause);
        pools_.change(t, account(swapped), -swapped.live);
    }
    Swapped remove(i64 t, i64 number, Cause cause) {
        const auto it = swapped_.find(number);
        free(t, it->second, cause);
        const Swapped out = it->second;
        swapped_.erase(it);
        return out;
    }
    // Frees what a pool has no room for, first taken first gone; calls `lose(number)` for each.
    template <class Lose>
    void shrink(i64 t, i64 pool, Lose&& lose) {
        std::vector<i64> gone;
        for (auto& [number, swapped] : swapped_) {
            if (pools_.used(pool) <= pools_.capacity(pool)) break;
            if (dram(swapped) != pool || !swapped.held) continue;
            free(t, swapped, kLost);
            gone.push_back(number);
        }
        for (const i64 number : gone) lose(number);
    }

  private:
    i64 dram(const Swapped& swapped) const { return tables_.replicas[swapped.replica].dram; }
    std::size_t account(const Swapped& swapped) const { return accounts_.at({swapped.klass, dram(swapped)}); }
    void flow(i64 t, const Swapped& swapped, Cause cause) {
        timeline_.flow(pools_.timeline_account(account(swapped)), cause, t, swapped.live);
    }

    const Tables& tables_;
    Timeline& timeline_;
    Pools& pools_;
    std::map<std::array<i64, 2>, std::size_t> accounts_;  // by class and pool
    std::map<i64, Swapped> swapped_;  // by number, in which they were taken
    i64 next_ = 0;
};

}  // namespace dcsim
