// Who arrives, and which replica's queue it joins.
#pragma once

#include "engine.hpp"

namespace dcsim {

inline void Engine::admit_request(i64 request) {
    const auto q = static_cast<std::size_t>(request);
    const WorkInfo& info = works_[static_cast<std::size_t>(work_of(request))];
    const i64 brought = brings() ? tables_.path_bytes(tables_.last_brought(reads_of(request))) : 0;
    const i64 need = info.need(tables_.requests.prompt[q], tables_.requests.output[q]) + brought;
    if (need <= budgets_[service_of_request(request)]) return route({request, 0});
    out_.outcome[q] = kRejected;
    std::vector<i64> gone{request};
    graph_.failed(request, [&](i64 other) {
        out_.outcome[static_cast<std::size_t>(other)] = kAbandoned;
        gone.push_back(other);
    });
    if (hand_overs_.any()) refuse(gone);
}

inline void Engine::route(const Waiting& request) {
    const std::size_t s = service_of_request(request.row);
    if (const HandOvers::Booking* place = booked(request.row)) {
        router_.add(place->replica, request.row, -1);
        enqueue(place->replica, request);
    } else if (router_.open(s)) {
        enqueue(choose(s, request.row, replica_before(request.row)), request);
    } else {
        limbo_[s].push_back(request);
    }
}

inline std::size_t Engine::choose(std::size_t service, i64 request, i64 before) {
    const auto found = [&](std::size_t r) { return saved(r, request); };
    if (!router_.has_function(service)) return router_.choose(service, before, found);
    const Requests& all = tables_.requests;
    const auto q = static_cast<std::size_t>(request);
    return router_.choose(service, Choice{now_, all.klass[q], all.prompt[q], all.output[q], before, {}}, found);
}

// Where the request that this one waited for last was; -1: it waited for none.
inline i64 Engine::replica_before(i64 request) const {
    const i64 before = graph_.before(static_cast<std::size_t>(request));
    return before < 0 ? -1 : out_.replica[static_cast<std::size_t>(before)];
}

inline void Engine::enqueue(std::size_t r, const Waiting& request) {
    Replica& replica = replicas_[r];
    replica.waiting.push_back(request);
    out_.replica[static_cast<std::size_t>(request.row)] = static_cast<std::int32_t>(r);
    router_.add(r, request.row, 1);
    if (replica.state != State::kUp) return;
    if (replica.batch.empty()) {
        wake(r);
    } else if (replica.waiting.size() == 1) {
        call_edge(r);
    }
}

// The head of the queue may join at the next edge: make that a boundary.
// If it does not fit then, it will not before the planned boundary either: only the head may
// join (first come, first served), no chunk changes before then, and holds but grow.
inline void Engine::call_edge(std::size_t r) {
    Replica& replica = replicas_[r];
    if (!fits(r, replica.waiting.front(), 0)) return;
    const i64 next = replica.batch.cost().steps_within(ticks_of(now_) - replica.began) + 1;
    if (next < replica.planned && fits(r, replica.waiting.front(), next)) plan(r, next);
}

}  // namespace dcsim
