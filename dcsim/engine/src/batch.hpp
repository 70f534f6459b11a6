// The requests that a replica runs together, as sums that are linear in the
// iteration index, so that many iterations are one closed form.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "segment.hpp"
#include "timeline.hpp"

namespace dcsim {

struct Running {
    Course course;
    Segment segment;
    i64 row = 0;
    i64 work = 0;
    i64 tokens_out = 0;  // before the present course began
    i64 begun = 0;       // iteration at which the segment began
    i64 order = -1;      // of admission; -1: the slot is free
    i64 uses = -1;       // of what it reads, the deepest node in HBM that it uses; -1: none
};

class Batch {
  public:
    // Where an HBM pool's bytes are written down.
    struct Accounts { std::size_t pool, live, transient; };

    // `prefill_first`: while any request is in prefill the others take no part in iterations.
    explicit Batch(bool prefill_first = false) : prefill_first_(prefill_first) {}

    bool empty() const { return running_ == 0; }
    i64 running() const { return running_; }
    i64 taking_part() const { return others_wait_ ? static_cast<i64>(prefills_.size()) : running_; }
    // Tokens that the coming iterations leave of those they may have (see feed), for a prefill or another.
    i64 left(bool prefill) const { return prefill_first_ && !prefill ? left_ - steady_ : left_; }
    i64 iteration() const { return iteration_; }
    const Line& hold() const { return hold_; }
    const Line& live() const { return live_; }
    Running& request(std::size_t slot) { return slots_[slot]; }
    // Work of the requests in a batch of equal shape.
    i64 work() const { return work_; }

    void admit(Running request) {
        std::size_t slot = slots_.size();
        if (free_.empty()) {
            slots_.emplace_back();
        } else {
            slot = free_.back();
            free_.pop_back();
        }
        work_ = request.work;
        request.order = admitted_++;
        slots_[slot] = request;
        ++running_;
        if (request.course.in_prefill()) {
            slots_[slot].segment.steps = 0;
            if (prefill_first_ && !others_wait_) take_turns();
            prefills_.push_back(slot);
            feed(slot);
        } else {
            if (!prefill_first_) left_ -= request.segment.tokens;
            push_end(slot, -request.begun);
        }
    }

    // Shares the tokens of the coming iterations out: decode and fixed steps take theirs, prefills
    // what is left, in order of admission. A chunk that stays what it is goes on as it is cut.
    void feed_all(i64 max_tokens) {
        left_ = max_tokens - (prefill_first_ ? 0 : steady_);
        prefill_end_ = kNever;
        for (const std::size_t slot : prefills_) feed(slot);
    }

    // Takes a request out as it is, wherever it stands in its segment, so that it can be admitted again:
    // its `begun` counts from the iteration at hand.
    Running release(std::size_t slot) {
        Running& request = slots_[slot];
        const bool prefill = request.course.in_prefill();
        if (prefill) prefills_.erase(std::find(prefills_.begin(), prefills_.end(), slot));
        const i64 done = steps_done(request);
        if (request.segment.steps > 0) leave(request);
        Running out = request;
        out.begun = prefill ? 0 : -done;
        free_slot(slot);
        go_on();
        return out;
    }
    // Live bytes and hold of a request in the coming iteration.
    struct Held { i64 live, hold; };
    Held held_by(const Running& request) const {
        const i64 k = steps_done(request);
        return {request.segment.live.at(k), request.segment.hold.at(k)};
    }

    // Calls `done(request)` for requests whose segment has run out and that have no
    // next one, in order of admission; moves the others on. Before that `first(row)` where it
    // ends with a first result, `fed(request)` where it ends a prefill.
    template <class First, class Fed, class Done>
    void turn(First&& first, Fed&& fed, Done&& done) {
        auto next = prefills_.begin();  // the first prefill that has not been looked at
        auto kept = next;
        const auto prefills_before = [&](i64 order) {
            for (; next != prefills_.end() && slots_[*next].order < order; ++next)
                if (turn_prefill(*next, first, fed, done)) *kept++ = *next;
        };
        while (!ends_.empty() && (stale(ends_.front()) || ends_.front().iteration == iteration_ - waited_)) {
            const End end = ends_.front();
            if (stale(end)) {
                pop_end();
                continue;
            }
            // The ends that this adds are of later iterations, so the front stays.
            if (prefill_end_ == iteration_) prefills_before(end.order);
            Running& request = slots_[end.slot];
            leave(request);
            if (request.segment.first) first(request.row);
            if (request.course.next(request.segment)) {
                begin(request);
                replace_end({request.begun + request.segment.steps, end.order, end.slot});
            } else {
                done(request);
                pop_end();
                free_slot(end.slot);
            }
        }
        if (prefill_end_ != iteration_) return;
        prefills_before(kNever);
        prefills_.erase(kept, prefills_.end());
        go_on();
    }

    // Bytes that are held beside those of the requests that run.
    void keep(i64 live, i64 hold) {
        live_.a += live;
        hold_.a += hold;
    }
    // Requests that load hold their bytes, but take no part in iterations.
    void stall(i64 live, i64 hold, i64 work) {
        keep(live, hold);
        work_ = work;
    }

    std::size_t youngest() const {
        std::size_t best = 0;
        for (std::size_t slot = 0; slot < slots_.size(); ++slot)
            if (slots_[slot].order > slots_[best].order) best = slot;
        return best;
    }

    std::vector<std::size_t> by_admission() const {
        std::vector<std::size_t> order;
        for (std::size_t slot = 0; slot < slots_.size(); ++slot)
            if (slots_[slot].order >= 0) order.push_back(slot);
        std::sort(order.begin(), order.end(),
                  [&](std::size_t a, std::size_t b) { return slots_[a].order < slots_[b].order; });
        return order;
    }

    i64 steps_done(const Running& request) const { return clock(request) - request.begun; }
    // Tokens of its prompt that are computed, of a request in prefill; -1: it is in none.
    i64 fed(const Running& request) const {
        if (!request.course.in_prefill()) return -1;
        return request.course.at() + (request.segment.steps > 0 ? steps_done(request) * request.segment.tokens : 0);
    }

    // Iterations until a segment ends or the holds outgrow the budget.
    i64 run_length(i64 budget) {
        while (!ends_.empty() && stale(ends_.front())) pop_end();
        const bool turn_of_all = !others_wait_ && !ends_.empty();
        i64 n = std::min(prefill_end_, turn_of_all ? ends_.front().iteration + waited_ : kNever) - iteration_;
        if (hold_.b > 0) n = std::min(n, (budget - hold_.a) / hold_.b + 1);
        return n;
    }

    // Ticks of the coming iterations, as a line in their index.
    void price(const std::vector<Phase>& phases) {
        cost_ = {0, 0};
        top_ = 0;
        for (PhaseSum& p : sums_) {
            if (p.requests == 0) continue;
            const Phase& phase = phases[p.phase];
            p.cost = {phase.launch + std::max(phase.weights, p.dense) + p.own.a, p.own.b};
            cost_.a += p.cost.a;
            cost_.b += p.cost.b;
            top_ = std::max(top_, p.peak);
        }
    }
    const Line& cost() const { return cost_; }
    // Most held in each of the coming iterations, with `weights` below.
    Line top(i64 weights) const { return {weights + live_.a + (running_ > 0 ? top_ : 0), live_.b}; }

    // Moves on by n iterations (within run_length).
    void advance(i64 n) {
        iteration_ += n;
        if (others_wait_) waited_ += n;
        live_.a += n * live_.b;
        hold_.a += n * hold_.b;
        for (PhaseSum& p : sums_) p.own.a += n * p.own.b;
    }

    // Writes down the bytes of `n` coming iterations from tick `start` on, then
    // of `rest` ticks of the next one. `weights`: bytes below them, for the top.
    void account(Timeline& timeline, const Accounts& at, i128 start, i64 n, i128 rest, i64 weights) {
        const i128 length = cost_.sum(n) + rest;
        const i128 end = std::min(start + length, ticks_of(timeline.bins().horizon));
        const i128 wide = ticks_of(timeline.bins().width);
        ByteTicks before;
        i64 first = 0;  // iteration that runs at t
        for (i128 t = start; t < end;) {
            if (t >= bin_end_) {  // time only goes forward: mostly it is still the same bin
                bin_ = static_cast<std::size_t>(t / wide);
                bin_end_ = static_cast<i128>(bin_ + 1) * wide;
            }
            const std::size_t bin = bin_;
            const i128 edge = std::min(bin_end_, end);
            const bool whole = edge == start + length;
            const i64 k = whole ? n : cost_.steps_within(edge - start);
            const i128 part = whole ? rest : edge - start - cost_.sum(k);
            const ByteTicks until = held(k, part);
            timeline.add(at.live, bin, until.live - before.live);
            timeline.add(at.transient, bin, until.transient - before.transient);
            const i64 last = part > 0 ? k : k - 1;
            timeline.raise(at.pool, bin, weights + std::max(live_.at(first), live_.at(last)) + top_);
            before = until;
            first = k;
            t = edge;
        }
    }

    // Writes down what those that load hold from tick `start` to `end`, with nobody running.
    void account_idle(Timeline& timeline, const Accounts& at, i128 start, i128 end, i64 weights) const {
        const i128 wide = ticks_of(timeline.bins().width);
        end = std::min(end, ticks_of(timeline.bins().horizon));
        for (i128 t = start; t < end;) {
            const auto bin = static_cast<std::size_t>(t / wide);
            const i128 edge = std::min(static_cast<i128>(bin + 1) * wide, end);
            timeline.add(at.live, bin, live_.a * (edge - t));
            timeline.raise(at.pool, bin, weights + live_.a);
            t = edge;
        }
    }

    // Mean transient bytes at `rest` ticks into an iteration `n` from now.
    i64 transient(i64 n, i128 rest) const {
        for (const PhaseSum& p : sums_) {
            if (p.requests == 0) continue;
            if (rest < p.cost.at(n)) return p.mean;
            rest -= p.cost.at(n);
        }
        return 0;
    }

  private:
    struct PhaseSum {
        std::size_t phase;
        i64 requests = 0, dense = 0, peak = 0, mean = 0;
        Line own{}, cost{};
    };
    struct ByteTicks { i128 live = 0, transient = 0; };
    struct End {
        i64 iteration, order;
        std::size_t slot;
        bool operator>(const End& o) const {
            return iteration != o.iteration ? iteration > o.iteration : order > o.order;
        }
    };

    // Byte-ticks of n whole iterations and `rest` ticks of the next.
    ByteTicks held(i64 n, i128 rest) const {
        ByteTicks h;
        h.live = sum_product(live_, cost_, n) + live_.at(n) * rest;
        for (const PhaseSum& p : sums_) {
            if (p.requests == 0) continue;
            const i128 take = std::min<i128>(rest, p.cost.at(n));
            h.transient += p.mean * (p.cost.sum(n) + take);
            rest -= take;
        }
        return h;
    }

    static PhaseSum& sum_of(std::vector<PhaseSum>& sums, i64 phase) {
        const auto row = static_cast<std::size_t>(phase);
        auto it = sums.begin();
        while (it != sums.end() && it->phase < row) ++it;
        if (it == sums.end() || it->phase != row) it = sums.insert(it, PhaseSum{row});
        return *it;
    }

    // Iterations that the request has, or could have, taken part in.
    i64 clock(const Running& request) const { return request.course.in_prefill() ? iteration_ : iteration_ - waited_; }
    // From now on those in prefill advance, or the others: what grows is that of who advances.
    void take_turns() {
        others_wait_ = !others_wait_;
        std::swap(sums_, waiting_sums_);
        std::swap(live_.b, waiting_live_);
        std::swap(hold_.b, waiting_hold_);
    }
    // Once the last prefill is over, or has left, the others go on.
    void go_on() {
        if (others_wait_ && prefills_.empty()) take_turns();
    }

    void push_end(std::size_t slot, i64 done = 0) {
        Running& request = slots_[slot];
        begin(request, done);
        ends_.push_back({request.begun + request.segment.steps, request.order, slot});
        std::push_heap(ends_.begin(), ends_.end(), std::greater<>());
    }
    // `done` steps of its segment were done before.
    void begin(Running& request, i64 done = 0) {
        request.begun = clock(request) - done;
        steady_ += request.segment.tokens;
        add(request, done, 1);
    }
    // Takes what is left of the segment in hand out of the sums; a prefill has been fed till here.
    void leave(Running& request) {
        const i64 steps = steps_done(request);
        add(request, steps, -1);
        if (request.course.in_prefill())
            request.course.fed(steps * request.segment.tokens);
        else
            steady_ -= request.segment.tokens;
    }
    void free_slot(std::size_t slot) {
        slots_[slot].order = -1;
        free_.push_back(slot);
        --running_;
    }

    // Prefills are few and looked at whenever tokens are shared out, so they are not in the heap of
    // ends. A request between two chunks has a segment of no steps.
    void feed(std::size_t slot) {
        Running& request = slots_[slot];
        const bool in_hand = request.segment.steps > 0;
        const i64 fed = in_hand ? steps_done(request) * request.segment.tokens : 0;
        const i64 chunk = std::max<i64>(1, std::min(request.course.most(fed), left_));
        left_ -= chunk;
        if (!in_hand || chunk != request.segment.tokens) {
            if (in_hand) leave(request);
            request.segment = request.course.feed(chunk);
            request.begun = iteration_;
            add(request, 0, 1);
        }
        prefill_end_ = std::min(prefill_end_, request.begun + request.segment.steps);
    }
    // True if the request is still in prefill.
    template <class First, class Fed, class Done>
    bool turn_prefill(std::size_t slot, First&& first, Fed&& fed, Done&& done) {
        Running& request = slots_[slot];
        if (request.begun + request.segment.steps != iteration_) return true;
        leave(request);
        if (request.segment.first) first(request.row);
        request.segment.steps = 0;
        if (request.course.in_prefill()) return true;
        fed(request);
        if (request.course.next(request.segment)) {
            push_end(slot);
        } else {
            done(request);
            free_slot(slot);
        }
        return false;
    }

    void add(const Running& request, i64 k, i64 sign) {
        const Segment& s = request.segment;
        const bool waits = others_wait_ && !request.course.in_prefill();
        live_.a += sign * s.live.at(k);
        hold_.a += sign * s.hold.at(k);
        (waits ? waiting_live_ : live_.b) += sign * s.live.b;
        (waits ? waiting_hold_ : hold_.b) += sign * s.hold.b;
        PhaseSum& p = sum_of(waits ? waiting_sums_ : sums_, s.phase);
        p.requests += sign;
        p.dense += sign * s.dense;
        p.peak += sign * s.peak;
        p.mean += sign * s.mean;
        p.own.a += sign * s.own.at(k);
        p.own.b += sign * s.own.b;
    }

    bool stale(const End& end) const { return slots_[end.slot].order != end.order; }
    void pop_end() {
        const End last = ends_.back();
        ends_.pop_back();
        if (!ends_.empty()) replace_end(last);
    }
    // Puts another end in the place of the first: one way down instead of a pop and a push.
    void replace_end(const End& end) {
        const std::size_t count = ends_.size();
        std::size_t hole = 0;
        for (std::size_t child = 1; child < count; child = 2 * hole + 1) {
            if (child + 1 < count && ends_[child] > ends_[child + 1]) ++child;
            if (!(end > ends_[child])) break;
            ends_[hole] = ends_[child];
            hole = child;
        }
        ends_[hole] = end;
    }

    std::vector<Running> slots_;
    std::vector<std::size_t> free_;
    std::vector<End> ends_;  // a heap: the next segment to end is at the front
    std::vector<PhaseSum> sums_;
    bool prefill_first_ = false, others_wait_ = false;
    std::vector<PhaseSum> waiting_sums_;         // of those who take no part, as they will go on
    i64 waiting_live_ = 0, waiting_hold_ = 0;    // what grows of theirs in a step
    i64 waited_ = 0;                             // iterations that all but prefills have waited
    Line live_, hold_, cost_;
    std::size_t bin_ = 0;  // of the timeline, last written to
    i128 bin_end_ = 0;
    std::vector<std::size_t> prefills_;  // slots, in order of admission
    i64 steady_ = 0;  // tokens of decode and fixed steps
    i64 prefill_end_ = kNever;  // iteration at which the first of the chunks in hand runs out
    i64 left_ = 0, top_ = 0, iteration_ = 0, admitted_ = 0, running_ = 0, work_ = 0;
};

}  // namespace dcsim
