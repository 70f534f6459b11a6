// A replica that will never go on: what its queue waits for is kept until the queue has moved on.
#pragma once

#include <set>

#include "engine.hpp"

namespace dcsim {

inline bool Engine::waits_for_head(i64 request, std::size_t r, std::set<i64>& seen) const {
    if (!seen.insert(request).second) return false;
    for (const Waiting& waiting : replicas_[r].waiting)
        if (waiting.row == request) return true;
    const auto q = static_cast<std::size_t>(request);
    if (out_.outcome[q] != kAwaited) return false;
    const Requests& all = tables_.requests;
    for (i64 i = all.after_start[q]; i < all.after_start[q + 1]; ++i) {
        const i64 before = all.after[static_cast<std::size_t>(i)];
        if (out_.outcome[static_cast<std::size_t>(before)] != kCompleted && waits_for_head(before, r, seen)) return true;
    }
    return false;
}

// The first request that waits for one and has not been admitted, of those to which a giver hands over; -1: none.
inline i64 Engine::taker_that_waits(i64 giver, std::size_t r) const {
    i64 found = -1;
    graph_.each(giver, [&](i64 taker) {
        bool takes = false;
        hand_overs_.each(taker, [&](i64 from, i64) { takes = takes || from == giver; });
        std::set<i64> seen;
        if (found < 0 && takes && out_.start[static_cast<std::size_t>(taker)] < 0 && waits_for_head(taker, r, seen)) found = taker;
    });
    return found;
}

inline std::optional<Engine::Stuck> Engine::stuck() const {
    for (std::size_t r = 0; hand_overs_.any() && r < replicas_.size(); ++r) {
        const Replica& replica = replicas_[r];
        if (replica.state != State::kUp || !replica.batch.empty() || !replica.loading.empty() || replica.waiting.empty()) continue;
        std::optional<Stuck> first;
        i64 stays = 0;
        for (std::size_t q = 0; q < out_.start.size(); ++q) {
            const auto giver = static_cast<i64>(q);
            if (out_.outcome[q] != kCompleted || replica_of(giver) != r || !hand_overs_.open(giver) || !is_kept(giver)) continue;
            const i64 taker = taker_that_waits(giver, r);
            if (taker < 0) continue;
            stays += hand_overs_.bytes(giver);
            if (!first) first = Stuck{static_cast<i64>(r), replica.waiting.front().row, giver, taker};
        }
        if (first && stays + held_of(replica.waiting.front()).hold > replica.budget - replica.watermark) return first;
    }
    return std::nullopt;
}

}  // namespace dcsim
