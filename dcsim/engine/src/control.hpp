// What operators do to the data center, and what they see of it.
#pragma once

#include "engine.hpp"

namespace dcsim {

inline void Engine::fail(std::size_t r) {
    run_until(now_);  // control acts after the events of its instant
    Replica& replica = at(r);
    if (replica.state == State::kDown) throw std::invalid_argument("replica " + std::to_string(r) + " is down already");
    std::vector<Waiting> requests = cut(r);
    weights_->give_up(r);
    ++replica.epoch;
    pools_.change(now_, replica.weights, -pools_.held(replica.weights));
    set_state(r, State::kDown, kWentDown);
    for (const Waiting& request : requests) route(request);
}

inline void Engine::start(std::size_t r) {
    run_until(now_);
    if (at(r).state != State::kDown) throw std::invalid_argument("replica " + std::to_string(r) + " is not down");
    begin_loading(r);
}

inline void Engine::set_capacity(i64 pool, i64 bytes) {
    run_until(now_);
    if (!detail::in(pool, tables_.pools) || tables_.pools[static_cast<std::size_t>(pool)].tier == kHbm || bytes < 0)
        throw std::invalid_argument("capacity: a DRAM or NAND pool and bytes >= 0");
    const i64 weights = weights_->held(pool);
    if (!lifted_) {
        if (weights > bytes)
            throw std::invalid_argument("the pool holds " + std::to_string(weights) +
                                        " bytes of weights, more than " + std::to_string(bytes));
        pools_.set_capacity(pool, bytes);
        lies_->shrink(now_, pool, false);
        objects_->shrink(now_, pool);
        lies_->shrink(now_, pool, true);
        if (swaps_->any()) lose_swapped(pool);
    }
    events_.push_back({now_, kCapacity, pool, bytes});
}

// Bytes in a pool now; for HBM weights + live + what the running phase holds.
inline i64 Engine::used(i64 pool) const {
    if (!detail::in(pool, tables_.pools)) throw std::invalid_argument("no such pool");
    i64 bytes = pools_.used(pool);
    for (std::size_t r = 0; r < replicas_.size(); ++r)
        if (tables_.replicas[r].hbm == pool) bytes += in_batch(replicas_[r]);
    return bytes;
}

inline i64 Engine::capacity(i64 pool) const {
    if (!detail::in(pool, tables_.pools)) throw std::invalid_argument("no such pool");
    return pools_.capacity(pool);
}

inline void Engine::set_state(std::size_t r, State state, EventKind kind) {
    replicas_[r].state = state;
    events_.push_back({now_, kind, static_cast<i64>(r), 0});
    if (state == State::kDown)
        router_.close(r);
    else
        router_.open(r, static_cast<i64>(replicas_[r].waiting.size()));
}

inline void Engine::begin_loading(std::size_t r) {
    ++replicas_[r].epoch;
    set_state(r, State::kLoading, kLoading);
    if (weights_->start(now_, r, replicas_[r].epoch)) take_weights(r);
    const auto service = static_cast<std::size_t>(tables_.replicas[r].service);
    for (const Waiting& request : std::exchange(limbo_[service], {})) route(request);
}

inline void Engine::go_up(std::size_t r) {
    set_state(r, State::kUp, kUp);
    if (!replicas_[r].waiting.empty()) wake(r);
}

// Cuts the running iteration; all requests, running by admission, then waiting.
inline std::vector<Waiting> Engine::cut(std::size_t r) {
    Replica& replica = replicas_[r];
    std::vector<Waiting> requests;
    settle_idle(r);
    if (!replica.batch.empty()) {
        settle_now(r);
        replica.began = ticks_of(now_);
        for (const std::size_t slot : replica.batch.by_admission()) requests.push_back(put_back(replica.batch, slot));
        edges_.clear(r);
    }
    replica.batch.keep(-replica.kept, -replica.kept);
    replica.kept = replica.freed = 0;
    replica.ready.clear();
    for (const Loading& l : std::exchange(replica.loading, {})) {
        unstall(replica, l.request);
        out_.outcome[static_cast<std::size_t>(l.request.row)] = kQueued;
        requests.push_back(start_over(l.request));
    }
    if (replica.slack.on()) replica.slack.lose(replica.batch, ticks_of(now_));
    for (const Waiting& waiting : replica.waiting) requests.push_back(start_over(waiting));
    replica.waiting.clear();
    return requests;
}

inline i64 Engine::in_batch(const Replica& replica) const {
    if (replica.batch.empty()) return replica.batch.live().a;
    const i128 x = ticks_of(now_) - replica.began;
    const i64 n = replica.batch.cost().steps_within(x);
    return replica.batch.live().at(n) + replica.batch.transient(n, x - replica.batch.cost().sum(n));
}

}  // namespace dcsim
