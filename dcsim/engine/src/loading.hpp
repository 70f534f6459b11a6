// Requests that load before they run: they hold their bytes, and take no part in iterations.
#pragma once

#include "engine.hpp"

namespace dcsim {

// Loads what is known of its prompt. False: there is nothing.
inline bool Engine::begin_load(std::size_t r, const Waiting& request) {
    const auto q = static_cast<std::size_t>(request.row);
    if (!has_content() || tables_.requests.reads[q] < 0) return false;
    const Content::Hit hit = content_->load(now_, tables_.requests.reads[q], r, loads_begun_, replicas_[r].epoch);
    if (hit.transfers == 0) return false;
    if (out_.start[q] < 0) {
        out_.hit_dram[q] = hit.dram;
        out_.hit_nand[q] = hit.nand;
    } else {
        out_.hit_again[q] += hit.dram + hit.nand;
    }
    stall(r, {request, loads_begun_++, hit.dram + hit.nand, hit.transfers});
    return true;
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
