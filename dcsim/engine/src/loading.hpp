// Requests that load before they run: they hold their bytes, and take no part in iterations.
#pragma once

#include <utility>

#include "engine.hpp"

namespace dcsim {

// Joins with what is in HBM of its prompt, or loads first what lies below.
inline void Engine::look_up(std::size_t r, const Waiting& request) {
    Replica& replica = replicas_[r];
    const auto q = static_cast<std::size_t>(request.row);
    const i64 reads = reads_of(request.row);
    if (reads < 0) return join(r, {request, 0, 0, 0});
    const Slack::Hit here = replica.slack.on() ? replica.slack.admit(replica.batch, replica.began, reads) : Slack::Hit{};
    Loading loading{request, loads_begun_, 0, 0, false, here.node};
    loading.first = out_.start[q] < 0;
    if (brings()) bring(r, loading);
    const SegmentRow& prefill = *works_[static_cast<std::size_t>(work_of(request.row))].rows;
    const std::size_t above = static_cast<std::size_t>(std::max(here.nodes, brought_count(reads)));
    const Content::Hit hit = content_->load(now_, reads, prefill, r, loads_begun_, replica.epoch, above);
    loading.tokens = here.tokens + hit.dram + hit.nand;
    loading.head = here.tokens + hit.head;
    loading.head_dram = hit.head;
    loading.from_dram = hit.from_dram;
    loading.from_nand = hit.from_nand;
    loading.transfers += (hit.from_dram != Content::kNone) + (hit.from_nand != Content::kNone);
    if (!loading.first) {
        out_.hit_again[q] += loading.tokens;
    } else if (loading.tokens > 0) {
        if (here.tokens > 0) out_.hit_hbm[q] = here.tokens;
        out_.hit_dram[q] = hit.dram;
        out_.hit_nand[q] = hit.nand;
    }
    if (hit.patience == 0) wait_no_more(loading);
    if (loading.transfers == 0) return join(r, loading);
    ++loads_begun_;
    if (hit.patience > 0 && hit.patience < kNever - now_) late_.push({{now_ + hit.patience, loading.id}, r, replica.epoch});
    stall(r, loading);
}

// What it needs of what is brought comes, unless it is in HBM; it waits for all that is on its way.
inline void Engine::bring(std::size_t r, Loading& loading) {
    Replica& replica = replicas_[r];
    const auto q = static_cast<std::size_t>(loading.request.row);
    std::vector<i64> path;
    for (i64 n = tables_.last_brought(reads_of(loading.request.row)); n >= 0; n = tables_.nodes[static_cast<std::size_t>(n)].parent) path.push_back(n);
    for (auto n = path.rbegin(); n != path.rend(); ++n) {
        Source from = kFromHbm;
        if (!replica.slack.has(*n)) {
            replica.slack.fly(replica.batch, replica.began, *n);
            from = content_->bring(now_, *n, r, replica.epoch);
            loading.uses = *n;
        }
        if (replica.slack.wait(*n, loading.id)) ++loading.transfers;
        const i64 bytes = tables_.nodes[static_cast<std::size_t>(*n)].bytes;
        if (loading.first || from != kFromHbm) out_.brought[loading.first ? from : kAgain][q] += bytes;
    }
}

// What is brought is here: those that waited for nothing else are ready.
inline void Engine::landed(std::size_t r, i64 node) {
    Replica& replica = replicas_[r];
    const std::size_t before = replica.ready.size();
    for (const i64 id : replica.slack.land(node))
        if (--replica.find(id)->transfers == 0) replica.ready.push_back(id);
    if (replica.ready.size() > before) edge_soon(r);
}

// What comes from NAND is late: it does without, and what it has found in DRAM has to begin its prompt.
inline void Engine::wait_no_more(Loading& loading) {
    const auto q = static_cast<std::size_t>(loading.request.row);
    if (loading.first) {
        out_.hit_dram[q] = loading.head_dram;
        out_.hit_nand[q] = 0;
    } else {
        out_.hit_again[q] -= loading.tokens - loading.head;
    }
    loading.tokens = loading.head;
    for (std::size_t* move : {&loading.from_nand, &loading.from_dram}) {
        if (*move == Content::kNone || (move == &loading.from_dram && loading.head_dram > 0)) continue;
        content_->let_go(std::exchange(*move, Content::kNone));
        --loading.transfers;
    }
}

// The patience of a request has run out.
inline void Engine::run_out() {
    const Late late = late_.top();
    late_.pop();
    Replica& replica = replicas_[late.replica];
    const auto loading = replica.find(late.due.sequence);
    if (replica.epoch != late.epoch || loading == replica.loading.end() || loading->from_nand == Content::kNone) return;
    wait_no_more(*loading);
    if (loading->transfers > 0) return;
    replica.ready.push_back(loading->id);
    edge_soon(late.replica);
}

// Bytes of the head of a queue that others hold already, less those that it brings. What is handed over comes as its own, and
// so does what was swapped.
inline i64 Engine::shares(const Replica& replica, const Waiting& request) const {
    if (!replica.slack.on()) return 0;
    const i64 reads = reads_of(request.row);
    const bool own = request.swap >= 0 || hand_overs_.to(request.row);
    return (own ? 0 : replica.slack.shares(reads)) - (brings() ? replica.slack.brings(reads) : 0);
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
    const Content::Hit below = content_->hit(reads, r, static_cast<std::size_t>(std::max(here.nodes, brought_count(reads))));
    return 4 * here.tokens + 3 * below.dram + below.nand;
}

// It holds its bytes from now on, and takes no part in iterations.
inline void Engine::stall(std::size_t r, const Loading& loading) {
    const Waiting& request = loading.request;
    const auto [live, hold] = held_of(request);
    replicas_[r].batch.stall(live, hold, work_of(request.row));
    replicas_[r].loading.push_back(loading);
}

inline void Engine::unstall(Replica& replica, const Waiting& request) const {
    const auto [live, hold] = held_of(request);
    replica.batch.keep(-live, -hold);
}

// A transfer of a load has ended; at the last the request joins at the next edge.
inline void Engine::loaded(std::size_t r, i64 id, std::size_t from) {
    Replica& replica = replicas_[r];
    const auto loading = replica.find(id);
    for (std::size_t* move : {&loading->from_dram, &loading->from_nand})
        if (*move == from) *move = Content::kNone;
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
