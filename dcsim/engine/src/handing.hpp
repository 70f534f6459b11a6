// Hand-overs in the loop: what replicas keep, what moves between them, who is expected where.
#pragma once

#include "engine.hpp"

namespace dcsim {

// Whether what a request hands over is still on the replica where it ended.
inline bool Engine::is_kept(i64 giver) const {
    const i64 epoch = hand_overs_.kept(giver);
    return epoch != HandOvers::kNotKept && epoch == replicas_[replica_of(giver)].epoch;
}

inline std::size_t Engine::replica_of(i64 request) const {
    return static_cast<std::size_t>(out_.replica[static_cast<std::size_t>(request)]);
}

inline void Engine::keep(std::size_t r, i64 giver) {
    const i64 bytes = hand_overs_.keep(giver, replicas_[r].epoch);
    replicas_[r].kept += bytes;
    replicas_[r].batch.keep(bytes, bytes);
}

// A hand-over is done: what nobody needs any more leaves at the next edge of its replica.
inline void Engine::done(i64 giver) {
    if (!hand_overs_.done(giver) || !is_kept(giver)) return;
    const std::size_t r = replica_of(giver);
    replicas_[r].freed += hand_overs_.bytes(giver);
    edge_soon(r);
}

// Requests that will never run: what was to be handed over to them, in order of givers.
inline void Engine::refuse(const std::vector<i64>& takers) {
    std::vector<i64> givers;
    for (const i64 taker : takers) {
        hand_overs_.each(taker, [&](i64 giver, i64) { givers.push_back(giver); });
        const HandOvers::Booking* booking = hand_overs_.booking(taker);
        if (booking == nullptr) continue;
        if (replicas_[booking->replica].epoch == booking->epoch) router_.add(booking->replica, taker, -1);
        hand_overs_.forget(taker);
    }
    std::sort(givers.begin(), givers.end());
    for (const i64 giver : givers) done(giver);
}

inline std::size_t Engine::hand_over(const HandOvers::Moving& moving, std::size_t from, i64 bytes) {
    const ReplicaRow& a = tables_.replicas[from];
    const ReplicaRow& b = tables_.replicas[moving.replica];
    const bool near = a.domain == b.domain;
    const std::size_t id = hand_overs_.begin(moving);
    channels_.start(now_, bytes, {Bound::kHandOver, id, replicas_[moving.replica].epoch},
                    near ? a.near_out : a.far_out, near ? b.near_in : b.far_in);
    return id;
}

// A request is admitted for the first time: a replica is chosen for each that waits for it and to
// which bytes go ahead.
inline void Engine::book(std::size_t r, i64 giver) {
    graph_.each(giver, [&](i64 taker) {
        const i64 bytes = hand_overs_.ahead(taker);
        const std::size_t s = service_of_request(taker);
        if (bytes == 0 || !router_.open(s)) return;
        const std::size_t to = choose(s, taker, static_cast<i64>(r));
        router_.add(to, taker, 1);
        const std::size_t move = hand_over({giver, taker, to, -1, true}, r, bytes);
        hand_overs_.book(taker, {to, r, replicas_[to].epoch, replicas_[r].epoch, move});
    });
}

// Where a request was booked, if that replica has not failed since; else nullptr.
inline const HandOvers::Booking* Engine::booked(i64 request) {
    const HandOvers::Booking* booking = hand_overs_.booking(request);
    return booking != nullptr && replicas_[booking->replica].epoch == booking->epoch ? booking : nullptr;
}

// At its first admission a request takes what is kept for it. False: there is nothing.
inline bool Engine::take_over(std::size_t r, const Waiting& request) {
    if (out_.start[static_cast<std::size_t>(request.row)] >= 0) return false;
    const HandOvers::Booking* ahead = booked(request.row);
    Loading loading{request, loads_begun_, hand_overs_.fed(request.row), 0, true};
    hand_overs_.each(request.row, [&](i64 giver, i64 bytes) {
        if (!is_kept(giver)) {
            lose(loading);
            return;
        }
        const std::size_t from = replica_of(giver);
        if (ahead != nullptr && ahead->replica == r && ahead->giver_replica == from && ahead->giver_epoch == hand_overs_.kept(giver)) {
            bytes -= hand_overs_.ahead(request.row);
            if (!ahead->arrived) {
                hand_overs_.moving(ahead->move).loading = loading.id;
                ++loading.transfers;
            }
        }
        hand_over({giver, request.row, r, loading.id, false}, from, bytes);
        ++loading.transfers;
    });
    hand_overs_.forget(request.row);
    if (loading.transfers == 0) return false;
    ++loads_begun_;
    stall(r, loading);
    return true;
}

// Nothing is fed of what did not come whole.
inline void Engine::lose(Loading& loading) {
    loading.tokens = 0;
    loading.handed = false;
}

inline void Engine::handed_over(const Errand& errand) {
    const HandOvers::Moving moving = hand_overs_.end(errand.subject);
    Replica& replica = replicas_[moving.replica];
    const bool there = replica.epoch == errand.epoch;
    if (moving.ahead && moving.loading < 0) {
        HandOvers::Booking* booking = hand_overs_.booking(moving.taker);
        if (booking != nullptr) booking->arrived = true;
        return;
    }
    if (!moving.ahead) {
        if (there && !is_kept(moving.giver)) lose(*replica.find(moving.loading));
        done(moving.giver);
    }
    if (there) loaded(moving.replica, moving.loading);
}

}  // namespace dcsim
