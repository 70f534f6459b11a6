// Preemption by swap, in the loop: who goes to DRAM, comes back, and is lost there.
#pragma once

#include "engine.hpp"

namespace dcsim {

// What a request that joins or loads holds from then on.
inline Batch::Held Engine::held_of(const Waiting& request) const {
    if (request.swap >= 0) {
        const Swaps::Swapped& swapped = swaps_->at(request.swap);
        return {swapped.live, swapped.hold};
    }
    const WorkInfo& info = works_[static_cast<std::size_t>(work_of(request.row))];
    const i64 prompt = prompt_of(request);
    return {info.first_live(prompt), info.admission_hold(prompt)};
}

// The request in a slot leaves for DRAM, where there is room; else nothing is done.
inline bool Engine::swap_out(std::size_t r, std::size_t slot, Waiting& out) {
    if (service_of(r).swap == 0) return false;
    Batch& batch = replicas_[r].batch;
    const Running& request = batch.request(slot);
    const auto [live, hold] = batch.held_by(request);
    const i64 klass = tables_.requests.klass[static_cast<std::size_t>(request.row)];
    const i64 number = swaps_->take(now_, {request, live, hold, klass, r});
    if (number < 0) return false;
    out = {request.row, request.tokens_out, number};
    Running& state = swaps_->find(number)->state;
    state = batch.release(slot);
    state.uses = -1;
    out_.outcome[static_cast<std::size_t>(out.row)] = kQueued;
    ++out_.swaps[static_cast<std::size_t>(out.row)];
    channels_.start(now_, live, {Bound::kSwap, static_cast<std::size_t>(number), 0}, tables_.replicas[r].offload);
    return true;
}

// One that is admitted is brought back.
inline void Engine::swap_in(std::size_t r, const Waiting& request) {
    Swaps::Swapped& swapped = *swaps_->find(request.swap);
    swapped.loading = loads_begun_;
    Loading loading{request, loads_begun_, 0, 1};
    if (brings()) {
        Replica& replica = replicas_[r];
        loading.uses = replica.slack.on() ? replica.slack.admit(replica.batch, replica.began, tables_.last_brought(reads_of(request.row))).node : -1;
        bring(r, loading);
    }
    ++loads_begun_;
    stall(r, loading);
    channels_.start(now_, swapped.live, {Bound::kSwap, static_cast<std::size_t>(request.swap), 0}, tables_.replicas[r].onboard);
}

// Its bytes have come to DRAM, or back to HBM.
inline void Engine::swapped(std::size_t subject) {
    const auto number = static_cast<i64>(subject);
    Swaps::Swapped* swapped = swaps_->find(number);
    if (swapped == nullptr) return;
    const std::size_t r = swapped->replica;
    if (swapped->come) {
        swaps_->free(now_, *swapped, kMoved);
        loaded(r, swapped->loading);
    } else {
        swapped->come = true;
        look_at_head(r, replicas_[r].waiting.front().swap == number);
    }
}

// The head of the queue of a replica may fit where it did not.
inline void Engine::look_at_head(std::size_t r, bool changed) {
    if (replicas_[r].batch.empty())
        wake(r);
    else if (changed)
        call_edge(r);
}

// As it starts over: with what it has put out.
inline Waiting Engine::start_over(const Waiting& request) {
    if (request.swap < 0) return request;
    const Running state = swaps_->remove(now_, request.swap, kLost).state;
    return {state.row, state.tokens_out + state.course.tokens_out(-state.begun)};
}

// A pool has shrunk, and nothing else can leave it.
inline void Engine::lose_swapped(i64 pool) {
    std::vector<std::size_t> lost;
    swaps_->shrink(now_, pool, [&](i64 number) {
        const Swaps::Swapped& swapped = swaps_->at(number);
        if (swapped.loading >= 0) return;
        const std::size_t r = swapped.replica;
        for (Waiting& waiting : replicas_[r].waiting)
            if (waiting.swap == number) waiting = start_over(waiting);
        lost.push_back(r);
    });
    std::sort(lost.begin(), lost.end());
    lost.erase(std::unique(lost.begin(), lost.end()), lost.end());
    for (const std::size_t r : lost) look_at_head(r, true);
}

}  // namespace dcsim
