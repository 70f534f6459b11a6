// The loop: edges of replicas, ends of transfers, objects that are due, arrivals.
#pragma once

#include <optional>
#include <set>
#include <utility>

#include "content.hpp"
#include "handover.hpp"
#include "replica.hpp"
#include "router.hpp"
#include "rows.hpp"
#include "swap.hpp"
#include "tier_top.hpp"
#include "useful.hpp"
#include "weights.hpp"

namespace dcsim {

class Engine {
  public:
    // `apart`: one of a team, which looks at what tiers hold together.
    Engine(Tables tables, i64 horizon, i64 bin, bool lifted, bool apart = false)
        : tables_(std::move(tables)), lifted_(lifted), apart_(apart), timeline_({bin, horizon}, tables_.pools.size(), tables_.channels.size()),
          pools_(tables_, timeline_, lifted, apart), tier_top_(tables_.replicas.size(), timeline_, apart), useful_(tables_, timeline_.bins()), channels_(tables_, timeline_),
          works_(work_infos(tables_)), bring_(tables_.services_that_bring()), graph_(tables_.requests), hand_overs_(tables_.requests), router_(tables_),
          limbo_(tables_.services.size()), out_(tables_, graph_),
          edges_(tables_.replicas.size(), kNever) {
        for (std::size_t r = 0; r < tables_.replicas.size(); ++r) add_replica(r);
        weights_.emplace(tables_, pools_, channels_);
        objects_.emplace(tables_, timeline_, pools_, channels_);
        lies_.emplace(tables_, timeline_, pools_, *objects_);
        pools_.set_evictor(&*lies_);
        swaps_.emplace(tables_, timeline_, pools_);
        content_.emplace(tables_, channels_, *lies_);
        timeline_.open();
        for (const Service& service : tables_.services) budgets_.push_back(least_budget(service));
        for (std::size_t r = 0; r < replicas_.size(); ++r) begin(r);
    }
    Engine(const Engine&) = delete;

    i64 now() const { return now_; }

    // Handles every event with time <= t.
    void run_until(i64 t) {
        if (t < now_) throw std::invalid_argument("time goes forward: now is " + std::to_string(now_) + " ns");
        if (t > timeline_.bins().horizon) throw std::invalid_argument("the run ends at " + std::to_string(timeline_.bins().horizon) + " ns");
        while (step(t)) {}
        now_ = handled_ = t;
    }

    // Requests come and go in slices: slices.hpp.
    void give(const Requests& more);
    void check(const Requests& more, i64 latest, std::size_t known) const;
    bool over() { return out_.over(); }
    template <class Put> bool take(Put&& put);
    template <class Put> void take_rest(Put&& put);

    void decide_by(std::size_t service, RouteFunction function) { router_.decide_by(service, std::move(function)); }

    // Control, and a look inside: control.hpp.
    void fail(std::size_t r);
    void start(std::size_t r);
    void set_capacity(i64 pool, i64 bytes);
    i64 used(i64 pool) const;
    i64 capacity(i64 pool) const;
    // 0 down, 1 loading, 2 up.
    int state(std::size_t r) { return static_cast<int>(at(r).state); }
    i64 running(std::size_t r) { return at(r).batch.running() + static_cast<i64>(at(r).loading.size()); }
    i64 waiting(std::size_t r) { return static_cast<i64>(at(r).waiting.size()); }
    i64 completed() const { return completed_; }
    // A replica that will never go on: its head waits for room that is kept of a giver for a taker, which
    // waits for the head: stuck.hpp.
    struct Stuck { i64 replica, request, giver, taker; };
    std::optional<Stuck> stuck() const;
    i64 arrived() const { return arrived_; }

    void finish();

    bool has_content() const { return !tables_.nodes.empty(); }
    bool brings() const { return !tables_.brought.empty(); }
    Timeline& timeline() { return timeline_; }
    TierTop& tier_top() { return tier_top_; }
    Pools& pools() { return pools_; }
    Useful& useful() { return useful_; }
    const std::vector<ControlEvent>& events() const { return events_; }
    const Stats& stats() const { return stats_; }
    Holding holding(std::size_t r) const {
        const Replica& replica = replicas_[r];
        const Line top = replica.batch.top(pools_.held(replica.weights));
        return {replica.began, replica.batch.empty() ? Line{1, 0} : replica.batch.cost(), top};
    }

  private:
    Replica& at(std::size_t r) {
        if (r >= replicas_.size()) throw std::invalid_argument("no replica " + std::to_string(r));
        return replicas_[r];
    }
    const Service& service_of(std::size_t r) const {
        return tables_.services[static_cast<std::size_t>(tables_.replicas[r].service)];
    }

    void add_replica(std::size_t r) {
        const ReplicaRow& row = tables_.replicas[r];
        const Service& s = service_of(r);
        Replica replica;
        replica.batch = Batch(s.order == 1);
        replica.weights = pools_.add_account({row.hbm, kWeights, row.service, -1});
        replica.accounts = {static_cast<std::size_t>(row.hbm), timeline_.add_account({row.hbm, kLive, row.service, -1}),
                            timeline_.add_account({row.hbm, kTransient, row.service, -1})};
        const i64 budget = tables_.pools[static_cast<std::size_t>(row.hbm)].capacity - s.weights - s.reserve;
        replica.budget = lifted_ ? kNever / 4 : budget;
        const bool brings = bring_[static_cast<std::size_t>(row.service)], whole = s.cache_hbm != 0;
        const std::size_t cache = whole ? timeline_.add_account({row.hbm, kCache, row.service, -1}) : 0;
        const std::size_t adapters = brings ? timeline_.add_account({row.hbm, kAdapters, row.service, -1}) : 0;
        if (has_content() && (whole || brings)) replica.slack = Slack(tables_, timeline_, cache, adapters, budget, whole);
        replica.watermark = lifted_ ? 0 : s.watermark;
        replicas_.push_back(std::move(replica));
    }

    i64 least_budget(const Service& s) const {
        i64 least = kNever;
        for (i64 r = s.replica; r < s.replica + s.replicas; ++r)
            least = std::min(least, replicas_[static_cast<std::size_t>(r)].budget);
        return least;
    }

    void begin(std::size_t r) {
        const i64 start = tables_.replicas[r].start;
        if (start == kCold) begin_loading(r);
        if (start != kWarm) return;
        weights_->warm(0, r);
        pools_.change(0, replicas_[r].weights, service_of(r).weights);
        set_state(r, State::kUp, kUp);
    }

    // ---- the loop

    bool step(i64 limit) {
        const i64 edge = edges_.top_key();
        const i64 moved = channels_.next_end().time;
        const i64 of_objects = objects_->next_due().time;
        const i64 due = has_content() ? std::min(of_objects, lies_->next_due().time) : of_objects;
        const Due arrival = next_arrival();
        const i64 late = late_.empty() ? kNever : late_.top().due.time;
        const i64 t = std::min({edge, moved, due, arrival.time, late});
        if (channels_.soonest() <= t && t > now_) {  // what is through at an instant is so before its events
            const i64 through = channels_.next_through();
            if (through <= std::min(t, limit)) {
                if (through == kNever) return false;
                now_ = through;
                channels_.through(through);
                return true;
            }
        }
        if (t > limit || t == kNever) return false;
        now_ = t;
        ++stats_.events;
        if (edge == t) {
            at_edge_ = static_cast<i64>(edges_.top());
            boundary(edges_.top());
            at_edge_ = -1;
        } else if (moved == t) {
            arrive(channels_.end());
        } else if (due == t) {
            if (of_objects == t)
                objects_->expire(t);
            else
                lies_->expire(t);
        } else if (arrival.time == t) {
            arrive(arrival.sequence);
        } else {
            run_out();
        }
        return true;
    }

    // The next to arrive, as (time, row): of those that wait for none, or of those that have waited.
    Due next_arrival() {
        if (graph_.any())
            while (next_ < out_.start.size() && graph_.waits(next_)) ++next_;
        Due first = kNoDue;
        if (next_ < out_.start.size()) first = {tables_.requests.arrival[next_], static_cast<i64>(next_)};
        return graph_.any() ? std::min(first, graph_.next()) : first;
    }

    void arrive(i64 request) {
        const auto q = static_cast<std::size_t>(request);
        if (graph_.waits(q)) {
            graph_.pop();
            out_.arrived[q] = now_;
            out_.outcome[q] = kQueued;
        } else {
            ++next_;
        }
        ++arrived_;
        admit_request(request);
    }

    void boundary(std::size_t r) {
        Replica& replica = replicas_[r];
        settle(r, replica.planned, 0, replica.planned - 1);
        replica.batch.turn([&](i64 request) { note_first(request); }, [&](Running& request) { prefilled(r, request); },
                           [&](const Running& request) { complete(r, request); });
        edge(r);
    }

    // Writes down n iterations and `rest` ticks of the next, and moves on by n; `begun`: how many have
    // begun after the one in hand.
    void settle(std::size_t r, i64 n, i128 rest, i64 begun) {
        Replica& replica = replicas_[r];
        Batch& batch = replica.batch;
        const i128 whole = batch.cost().sum(n);
        if (replica.slack.on()) replica.slack.run(batch, replica.began, begun);
        batch.account(timeline_, replica.accounts, replica.began, n, rest, pools_.held(replica.weights));
        tell(r, replica.began + whole + rest, rest > 0 ? n : n - 1);
        replica.began += whole;
        batch.advance(n);
        stats_.iterations += n;
        stats_.steps += n * batch.taking_part();
    }

    void settle_now(std::size_t r) {
        const Replica& replica = replicas_[r];
        const i128 x = ticks_of(now_) - replica.began;
        const i64 n = replica.batch.cost().steps_within(x);
        settle(r, n, x - replica.batch.cost().sum(n), n);
    }

    // Admission, preemption, and the plan up to the next boundary.
    void edge(std::size_t r) {
        Replica& replica = replicas_[r];
        Batch& batch = replica.batch;
        ++stats_.boundaries;
        batch.keep(-replica.freed, -replica.freed);
        replica.kept -= std::exchange(replica.freed, 0);
        const i64 max_tokens = service_of(r).max_tokens;
        if (!replica.ready.empty())
            for (const i64 id : std::exchange(replica.ready, {})) join(r, take_loading(replica, id));
        batch.feed_all(max_tokens);
        while (!replica.waiting.empty() && fits(r, replica.waiting.front(), 0)) admit(r);
        if (batch.hold().a > replica.budget) {
            while (!batch.empty() && batch.hold().a > replica.budget) preempt(r);
            batch.feed_all(max_tokens);
        }
        if (replica.slack.on()) replica.slack.make_room(batch, replica.began);
        if (batch.empty()) {
            edges_.clear(r);
            return;
        }
        batch.price(tables_.phases);
        plan(r, batch.run_length(replica.budget));
    }

    void plan(std::size_t r, i64 iterations) {
        Replica& replica = replicas_[r];
        replica.planned = iterations;
        edges_.set(r, ns_of(replica.began + replica.batch.cost().sum(iterations)));
    }

    // ---- who joins a batch and who leaves it: joining.hpp
    bool fits(std::size_t r, const Waiting& request, i64 after) const;
    void admit(std::size_t r);
    void join(std::size_t r, const Loading& from);
    void prefilled(std::size_t r, Running& request);
    void preempt(std::size_t r);
    Waiting put_back(Batch& batch, std::size_t slot);

    bool waits_for_head(i64 request, std::size_t r, std::set<i64>& seen) const;
    i64 taker_that_waits(i64 giver, std::size_t r) const;

    // ---- preemption by swap: swapping.hpp
    Batch::Held held_of(const Waiting& request) const;
    bool swap_out(std::size_t r, std::size_t slot, Waiting& out);
    void swap_in(std::size_t r, const Waiting& request);
    void swapped(std::size_t subject);
    void look_at_head(std::size_t r, bool changed);
    Waiting start_over(const Waiting& request);
    void lose_swapped(i64 pool);

    // ---- requests that load: loading.hpp
    void look_up(std::size_t r, const Waiting& request);
    void stall(std::size_t r, const Loading& loading);
    void unstall(Replica& replica, const Waiting& request) const;
    void wait_no_more(Loading& loading);
    void run_out();
    void loaded(std::size_t r, i64 id, std::size_t from = Content::kNone);
    void edge_soon(std::size_t r);
    Loading take_loading(Replica& replica, i64 id);
    i64 reads_of(i64 request) const { return has_content() ? tables_.requests.reads[static_cast<std::size_t>(request)] : -1; }
    i64 shares(const Replica& replica, const Waiting& request) const;
    void bring(std::size_t r, Loading& loading);
    void landed(std::size_t r, i64 node);
    i64 brought_count(i64 reads) const { return brings() ? tables_.path_length(tables_.last_brought(reads)) : 0; }
    i64 saved(std::size_t r, i64 request);

    // An edge now, of a replica that runs nothing.
    void wake(std::size_t r) {
        settle_idle(r);
        edge(r);
    }
    void settle_idle(std::size_t r) {
        Replica& replica = replicas_[r];
        if (!replica.batch.empty()) return;
        const i128 now = ticks_of(now_);
        if (!replica.loading.empty() || replica.kept > 0)
            replica.batch.account_idle(timeline_, replica.accounts, replica.began, now, pools_.held(replica.weights));
        tell(r, now, 0);
        replica.began = now;
    }

    // What replica r has held since it began is known until tick `end`, of its iteration k.
    void tell(std::size_t r, i128 end, i64 k) {
        if (!tier_top_.needed()) return;
        tier_top_.come_to(now_, [this](std::size_t q) { return holding(q); });
        tier_top_.tell(r, holding(r), end, k);
    }

    void note_first(i64 request) {
        i64& first = out_.first[static_cast<std::size_t>(request)];
        if (first < 0) first = now_;
    }

    void complete(std::size_t r, const Running& request) {
        const auto q = static_cast<std::size_t>(request.row);
        out_.end[q] = now_;
        out_.outcome[q] = kCompleted;
        ++completed_;
        if (hand_overs_.any()) keep(r, request.row);
        graph_.completed(now_, request.row);
        router_.add(r, request.row, -1);
        const i64 klass = tables_.requests.klass[q];
        const WorkInfo& work = works_[static_cast<std::size_t>(request.work)];
        objects_->put(now_, klass, kArtifacts, work.artifact, r);
        const i64 leaves = has_content() ? tables_.requests.leaves[q] : -1;
        if (leaves < 0 || tables_.is_brought(leaves)) objects_->put(now_, klass, kCache, work.token ? request.course.context() : work.context, r);
        Replica& replica = replicas_[r];
        if (replica.slack.on()) replica.slack.completed(replica.batch, replica.began, request.uses, leaves);
        if (leaves < 0) return;
        content_->left(now_, leaves, r);
        if (useful_.any()) useful_.left(now_, leaves);
    }

    // ---- arrivals and routing: routing.hpp
    i64 work_of(i64 request) const { return tables_.requests.work[static_cast<std::size_t>(request)]; }
    i64 prompt_of(const Waiting& request) const {
        return tables_.requests.prompt[static_cast<std::size_t>(request.row)] + request.tokens_out;
    }
    std::size_t service_of_request(i64 request) const {
        const i64 klass = tables_.requests.klass[static_cast<std::size_t>(request)];
        return static_cast<std::size_t>(tables_.classes[static_cast<std::size_t>(klass)].service);
    }
    void admit_request(i64 request);
    void route(const Waiting& request);
    std::size_t choose(std::size_t service, i64 request, i64 before);
    i64 replica_before(i64 request) const;
    void enqueue(std::size_t r, const Waiting& request);
    void call_edge(std::size_t r);

    // ---- transfers

    void arrive(const Errand& errand) {
        const std::size_t subject = errand.subject;
        if (errand.bound == Bound::kObject) {
            objects_->arrive(now_, subject);
        } else if (errand.bound == Bound::kContent) {
            const Content::Ended ended = content_->arrive(now_, subject);
            if (replicas_[ended.replica].epoch == errand.epoch) {
                if (ended.brought >= 0) landed(ended.replica, ended.brought);
                if (ended.loading >= 0) loaded(ended.replica, ended.loading, ended.move);
            }
        } else if (errand.bound == Bound::kHandOver) {
            handed_over(errand);
        } else if (errand.bound == Bound::kSwap) {
            swapped(subject);
        } else if (errand.bound == Bound::kSet) {
            for (const std::size_t r : weights_->loaded(now_, subject)) {
                take_weights(r);
                weights_->onboard(now_, r, replicas_[r].epoch);
            }
        } else {
            if (errand.bound == Bound::kOnboard) weights_->onboarded(now_, subject);
            if (replicas_[subject].epoch == errand.epoch) go_up(subject);
        }
    }

    void take_weights(std::size_t r) {
        settle_idle(r);
        pools_.change(now_, replicas_[r].weights, service_of(r).weights);
    }

    // ---- hand-overs: handing.hpp
    bool is_kept(i64 giver) const;
    std::size_t replica_of(i64 request) const;
    void keep(std::size_t r, i64 giver);
    void done(i64 giver);
    void refuse(const std::vector<i64>& takers);
    std::size_t hand_over(const HandOvers::Moving& moving, std::size_t from, i64 bytes);
    void book(std::size_t r, i64 giver);
    const HandOvers::Booking* booked(i64 request);
    bool take_over(std::size_t r, const Waiting& request);
    static void lose(Loading& loading);
    void handed_over(const Errand& errand);

    // ---- replicas that come and go: control.hpp
    void set_state(std::size_t r, State state, EventKind kind);
    void begin_loading(std::size_t r);
    void go_up(std::size_t r);
    std::vector<Waiting> cut(std::size_t r);
    i64 in_batch(const Replica& replica) const;

    Tables tables_;
    bool lifted_, apart_;
    Timeline timeline_;
    Pools pools_;
    TierTop tier_top_;
    Useful useful_;
    Channels channels_;
    std::vector<WorkInfo> works_;
    std::vector<bool> bring_;  // services that have brought nodes
    Graph graph_;
    HandOvers hand_overs_;
    Router router_;
    std::vector<std::deque<Waiting>> limbo_;  // by service
    RequestRows out_;
    WinnerTree<i64> edges_;
    std::vector<Replica> replicas_;
    std::vector<i64> budgets_;  // the smallest of a service's replicas
    std::optional<Weights> weights_;
    std::optional<Objects> objects_;
    std::optional<Residence> lies_;
    std::optional<Content> content_;
    std::optional<Swaps> swaps_;
    std::vector<ControlEvent> events_;
    Stats stats_;
    std::size_t next_ = 0;
    std::priority_queue<Late, std::vector<Late>, std::greater<>> late_;
    i64 now_ = 0, handled_ = -1, arrived_ = 0, completed_ = 0, loads_begun_ = 0;
    i64 at_edge_ = -1;  // the replica whose edge is being handled
    bool finished_ = false;
};

}  // namespace dcsim

#include "control.hpp"
#include "handing.hpp"
#include "joining.hpp"
#include "loading.hpp"
#include "routing.hpp"
#include "slices.hpp"
#include "stuck.hpp"
#include "swapping.hpp"
