// From a work (table rows) to the segments a request runs through.
#pragma once

#include <algorithm>
#include <vector>

#include "tables.hpp"

namespace dcsim {

// A run of steps whose demands are linear in the step index.
struct Segment {
    i64 phase, steps, tokens, dense;
    Line own, live, hold;
    i64 peak, mean;
    bool first;
};

// One request's way through its work. A token work is cut as it goes: nothing is
// stored for a request that waits but its request and the tokens it has put out.
class Course {
  public:
    Course() = default;
    Course(const SegmentRow* rows, i64 count, i64 hold, i64 prompt, i64 output)
        : rows_(rows), count_(count), hold_(hold), prompt_(prompt), output_(output) {}

    bool token() const { return rows_->rule != kFixed; }
    bool in_prefill() const { return token() && at_ < prompt_; }
    // The most tokens that a step may feed when `fed` have been since the segment began.
    i64 most(i64 fed) const { return std::min(rows_->tokens, prompt_ - at_ - fed); }
    // Tokens put out when `steps` steps of the segment in hand are done.
    i64 tokens_out(i64 steps) const { return decoded_ ? 1 + steps : 0; }
    // Bytes of the KV blocks at the end of a token work.
    i64 context() const { return rows_->live * (prompt_ + output_ - 1); }

    i64 at() const { return at_; }
    void fed(i64 tokens) { at_ += tokens; }
    // The first tokens of the prompt have been loaded; one at least is computed.
    void loaded(i64 tokens) { at_ = std::min(tokens, prompt_ - 1); }

    // The next steps of `c` prompt tokens each, as many as are alike. Attention is the larger of
    // two lines: flops of (query, key) pairs, or the bytes of the context.
    Segment feed(i64 c) const {
        const SegmentRow& r = rows_[0];
        i64 n = (prompt_ - at_) / c;
        const Line pair{r.pair * (c * at_ + c * (c + 1) / 2), r.pair * c * c};
        const Line context{r.ctx * (at_ + c), r.ctx * c};
        const bool by_pairs = pair.a >= context.a;
        const Line& upper = by_pairs ? pair : context;
        const Line& lower = by_pairs ? context : pair;
        if (lower.b > upper.b) n = std::min(n, (upper.a - lower.a) / (lower.b - upper.b) + 1);
        const i64 live = r.live * prompt_;
        return {r.phase, n, c, r.dense * c, {r.own * c + upper.a, upper.b}, {live, 0}, {live, 0},
                r.peak * c, r.mean * c, r.first != 0 && at_ + n * c == prompt_};
    }

    // Fills `out` with the next segment that is no prefill; false when the work is done.
    bool next(Segment& out) {
        if (!token()) {
            if (at_ == count_) return false;
            out = fixed(rows_[at_++], hold_);
            return true;
        }
        if (output_ == 1 || decoded_) return false;
        decode(out);
        return true;
    }

  private:
    static Segment fixed(const SegmentRow& r, i64 hold) {
        return {r.phase, r.steps, r.tokens, r.dense, {r.own, r.own_slope}, {r.live, r.live_slope}, {hold, 0},
                r.peak, r.mean, r.first != 0};
    }

    void decode(Segment& out) {
        const SegmentRow& r = rows_[1];
        const i64 attention = std::max(r.pair, r.ctx);
        const Line live{r.live * (prompt_ + 1), r.live};
        out = {r.phase, output_ - 1, 1, r.dense, {r.own + attention * (prompt_ + 1), attention}, live, live,
               r.peak, r.mean, r.first != 0};
        decoded_ = true;
    }

    const SegmentRow* rows_ = nullptr;
    i64 count_ = 0, hold_ = 0, prompt_ = 0, output_ = 0;
    i64 at_ = 0;  // fixed: next row; token: prompt tokens fed when the segment in hand began
    bool decoded_ = false;
};

// What admission must know of a work before its segments exist.
struct WorkInfo {
    const SegmentRow* rows;
    i64 count, hold, artifact, context;
    bool token;

    i64 admission_hold(i64 prompt) const { return token ? rows->live * prompt : hold; }
    i64 first_live(i64 prompt) const { return token ? rows->live * prompt : rows->live; }
    // What must be left of an iteration's tokens for it to join.
    i64 first_tokens() const { return token ? 1 : rows->tokens; }
    i64 need(i64 prompt, i64 output) const { return token ? rows->live * (prompt + output - 1) : hold; }
};

inline std::vector<WorkInfo> work_infos(const Tables& tables) {
    std::vector<WorkInfo> infos;
    infos.reserve(tables.works.size());
    for (const Work& w : tables.works) {
        const SegmentRow* rows = &tables.segments[static_cast<std::size_t>(w.segment)];
        i64 hold = 0;
        for (i64 i = 0; i < w.segments; ++i)
            hold = std::max(hold, rows[i].live + std::max<i64>(0, rows[i].live_slope * (rows[i].steps - 1)) + rows[i].peak);
        infos.push_back({rows, w.segments, hold, w.artifact, w.context, rows->rule != kFixed});
    }
    return infos;
}

}  // namespace dcsim
