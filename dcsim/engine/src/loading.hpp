// Requests that load before they run: they hold their bytes, and take no part in iterations.
#pragma once

#include "engine.hpp"

namespace dcsim {

// Joins with what is in HBM of its prompt, or loads first what lies below.
inline void Engine::look_up(std::size_t r, const Waiting& request) {
    Replica& replica = replicas_[r];
    const auto q = static_cast<std::size_t>(request.row);
    const i64 reads = reads_of(request.row);
    if (reads < 0) return join(r, {request, 0, 0, 0});
    const Slack::Hit here = replica.slack.on() ? replica.slack.admit(replica.batch, replica.began, reads) : Slack::Hit{};
    const SegmentRow& prefill = *works_[static_cast<std::size_t>(work_of(request.row))].rows;
    const Content::Hit hit =
        content_->load(now_, reads, prefill, r, loads_begun_, replica.epoch, static_cast<std::size_t>(here.nodes));
    const i64 tokens = here.tokens + hit.dram + hit.nand;
    if (out_.start[q] >= 0) {
        out_.hit_again[q] += tokens;
    } else if (tokens > 0) {
        if (here.tokens > 0) out_.hit_hbm[q] = here.tokens;
        out_.hit_dram[q] = hit.dram;
        out_.hit_nand[q] = hit.nand;
    }
    if (hit.transfers == 0) return join(r, {request, 0, tokens, 0, false, here.node});
    stall(r, {request, loads_begun_++, tokens, hit.transfers, false, here.node});
}

// Bytes of the head of a queue that others hold already. What is handed over comes as its own.
inline i64 Engine::shares(const Replica& replica, i64 request) const {
    return replica.slack.on() && !hand_overs_.to(request) ? replica.slack.shares(reads_of(request)) : 0;
}

// What a replica has of its prompt now, in quarters of tokens: 4 a token in HBM, 3 in DRAM, 1 in NAND.
inline i64 Engine::saved(std::size_t r, i64 request) {
    const i64 reads = reads_of(request);
    if (reads < 0) return 0;
    Replica& replica = replicas_[r];
    Slack::Hit here;
    if (replica.slack.on()) {
        const Batch& batch = replica.batch;
        // of edges at one time those of lower rows have been, inside an edge
        const i128 seen = ticks_of(static_cast<i64>(r) > at_edge_ && at_edge_ >= 0 ? now_ - 1 : now_) - replica.began;
        if (!batch.empty() && seen > 0) replica.slack.run(batch, replica.began, batch.cost().steps_within(seen));
        here = replica.slack.hit(reads);
    }
    const Content::Hit below = content_->hit(reads, r, static_cast<std::size_t>(here.nodes));
    return 4 * here.tokens + 3 * below.dram + below.nand;
}

// It holds its bytes from now on, and takes no part in iterations.
inline void Engine::stall(std::size_t r, const Loading& loading) {
    const Waiting& request = loading.request;
    const WorkInfo& info = works_[static_cast<std::size_t>(work_of(request.row))];
    const i64 prompt = prompt_of(request);
    replicas_[r].batch.stall(info.first_live(prompt), info.admission_hold(prompt), work_of(request.row));
    replicas_[r].loading.push_back(loading);
}

inline void Engine::unstall(Replica& replica, const Waiting& request) const {
    const WorkInfo& info = works_[static_cast<std::size_t>(work_of(request.row))];
    const i64 prompt = prompt_of(request);
    replica.batch.keep(-info.first_live(prompt), -info.admission_hold(prompt));
}

// A transfer of a load has ended; at the last the request joins at the next edge.
inline void Engine::loaded(std::size_t r, i64 id) {
    Replica& replica = replicas_[r];
    const auto loading = replica.find(id);
    if (--loading->transfers > 0) return;
    if (loading->handed) out_.handed[static_cast<std::size_t>(loading->request.row)] = now_;
    replica.ready.push_back(id);
    edge_soon(r);
}

// Something is to be done at the next edge: at once if nobody runs.
inline void Engine::edge_soon(std::size_t r) {
    Replica& replica = replicas_[r];
    if (replica.batch.empty()) {
        wake(r);
    } else {
        const i64 next = replica.batch.cost().steps_within(ticks_of(now_) - replica.began) + 1;
        if (next < replica.planned) plan(r, next);
    }
}

inline Loading Engine::take_loading(Replica& replica, i64 id) {
    const auto it = replica.find(id);
    const Loading out = *it;
    replica.loading.erase(it);
    unstall(replica, out.request);
    return out;
}

}  // namespace dcsim
