// What the loop keeps of a replica and of a request.
#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "content.hpp"
#include "slack.hpp"

namespace dcsim {

struct Stats { i64 events = 0, boundaries = 0, steps = 0, iterations = 0; };
struct ControlEvent { i64 time, kind, subject, value; };

// `swap`: its number in DRAM; -1: it starts over, or has not begun.
struct Waiting { i64 row, tokens_out, swap = -1; };
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

// Who waits for what comes from NAND, and until when; the sequence is that of the load.
struct Late {
    Due due;
    std::size_t replica;
    i64 epoch;
    bool operator>(const Late& o) const { return due > o.due; }
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

}  // namespace dcsim
