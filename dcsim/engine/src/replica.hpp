// What the loop keeps of a replica and of a request, and what it writes down of requests.
#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "content.hpp"
#include "graph.hpp"
#include "slack.hpp"

namespace dcsim {

struct Stats { i64 events = 0, boundaries = 0, steps = 0, iterations = 0; };
struct ControlEvent { i64 time, kind, subject, value; };

struct Waiting { i64 row, tokens_out; };
// An admitted request whose prefix is on its way, or has come.
struct Loading {
    Waiting request;
    i64 id, tokens, transfers;
    bool handed = false;  // what comes is from the requests that it waited for
    i64 uses = -1;        // the deepest node in HBM that it uses; -1: none
    // Of a prefix: whether it is the first that the request loads, its tokens before what comes from
    // NAND (of them those from DRAM), and the moves that have not come.
    bool first = false;
    i64 head = 0, head_dram = 0;
    std::size_t from_dram = Content::kNone, from_nand = Content::kNone;
};

enum class State : char { kDown, kLoading, kUp };
struct Replica {
    State state = State::kDown;
    Batch batch;
    Batch::Accounts accounts{};
    Slack slack;
    std::size_t weights = 0;  // account
    i64 budget = 0, watermark = 0;
    i128 began = 0;  // tick at which the coming iterations began
    i64 planned = 0;  // iterations until the next boundary
    i64 epoch = 0;
    std::deque<Waiting> waiting;
    std::vector<Loading> loading;  // in order of admission
    std::vector<i64> ready;        // ids of those whose prefix has come, in that order
    i64 kept = 0, freed = 0;       // bytes to be handed over; of them those that leave at the next edge

    std::vector<Loading>::iterator find(i64 id) {
        return std::find_if(loading.begin(), loading.end(), [id](const Loading& l) { return l.id == id; });
    }
};

struct RequestColumns {
    std::vector<i64> arrived, start, first, end;
    std::vector<std::int8_t> outcome;
    std::vector<std::int32_t> preemptions, replica;
    std::vector<i64> hit_hbm, hit_dram, hit_nand, hit_again;  // empty: no content is known
    std::vector<i64> handed;                                  // empty: nothing is handed over

    RequestColumns(const Tables& tables, const Graph& graph) : arrived(tables.requests.arrival) {
        const std::size_t n = arrived.size();
        for (auto* times : {&start, &first, &end}) times->assign(n, -1);
        outcome.assign(n, kQueued);
        preemptions.assign(n, 0);
        replica.assign(n, -1);
        if (!tables.requests.handover.empty()) handed.assign(n, -1);
        if (!tables.nodes.empty())
            for (auto* hits : {&hit_hbm, &hit_dram, &hit_nand, &hit_again}) hits->assign(n, 0);
        for (std::size_t q = 0; graph.any() && q < n; ++q)
            if (graph.waits(q)) {
                arrived[q] = -1;
                outcome[q] = kAwaited;
            }
    }
};

}  // namespace dcsim
