// Transfers over the links: how far each one is, when it ends, what each link moved.
//
// A limiting link has a clock: the work that a transfer at its rate would have
// done. Transfers of a route all progress by the same, so one is due at a fixed
// reading of the clock of its route's limit, whatever the rates become: a change
// of rate costs the same for one transfer and for thousands.
#pragma once

#include <map>
#include <queue>

#include "shares.hpp"
#include "timeline.hpp"
#include "tree.hpp"

namespace dcsim {

// An instant with its place among equals.
struct Due {
    i64 time, sequence;
    bool operator<(const Due& o) const { return time != o.time ? time < o.time : sequence < o.sequence; }
    bool operator>(const Due& o) const { return o < *this; }
};
inline constexpr Due kNoDue{kNever, kNever};

// What waits for the end of a transfer.
enum class Bound : char { kObject, kSet, kOnboard, kDirect, kContent, kHandOver, kSwap };
struct Errand {
    Bound bound;
    std::size_t subject;
    i64 epoch;
};

class Channels {
  public:
    Channels(const Tables& tables, Timeline& timeline)
        : tables_(tables), timeline_(timeline), link_of_(links(tables)), shares_(bandwidths(tables)),
          clocks_(tables.channels.size()), through_(tables.channels.size(), kNever), work_(tables.channels.size()),
          routes_of_(tables.path_start.size() - 1) {}

    // Starts a transfer of `bytes` over one or two paths; gives its number.
    i64 start(i64 t, i64 bytes, Errand errand, i64 path, i64 then = -1) {
        const i64 number = started_++;
        const std::size_t r = route_of(path, then);
        if (bytes == 0) {
            arrive(t, r, number, errand);
            return number;
        }
        come_to(t);
        settle(r, t);
        Route& route = routes_[r];
        route.transfers.push({route.done + static_cast<i128>(bytes) * kWork, number, errand});
        if (route.transfers.size() == 1) {
            route.place = active_.size();
            active_.push_back(r);
        }
        change(r, 1);
        return number;
    }

    // No transfer is through before this; cheap to ask for.
    i64 soonest() const { return soonest_; }
    // The next instant at which a transfer is through: then call `through`.
    i64 next_through() {
        if (!changed_.empty()) share();
        return soonest_ = through_.top_key();
    }
    void through(i64 t) {
        come_to(t);
        while (through_.top_key() <= t) {
            const std::size_t l = through_.top();
            Clock& clock = clocks_[l];
            const i128 reading = clock.at(t);
            while (const Head* head = first(clock)) {
                if (head->reading > reading) break;
                finish(head->route, t);
            }
            changed_clocks_.push_back(l);
            through_.clear(l);
        }
    }

    // The next end of a transfer, and what waits for it.
    const Due& next_end() const { return ends_.empty() ? kNoDue : ends_.top().due; }
    Errand end() {
        const Errand errand = ends_.top().errand;
        ends_.pop();
        return errand;
    }

    // The run is over at the horizon `t`.
    void close(i64 t) {
        come_to(t);
        write_down(t);
    }

  private:
    static constexpr i128 kWork = 1'000'000'000;  // a byte, in what a rate of 1 byte/s does in a ns
    static constexpr i64 kFar = i64{1} << 61;  // 73 years: beyond it is never, so that no sum leaves its bits
    static constexpr std::size_t kNone = Shares::kNone;

    struct Transfer {
        i128 due;  // work done by the route
        i64 number;
        Errand errand;
        bool operator>(const Transfer& o) const { return due != o.due ? due > o.due : number > o.number; }
    };
    struct Route {
        std::vector<Shares::Use> channels;  // all of them: here `link` is a row of the table
        i64 latency = 0;
        i128 done = 0;   // work of each transfer when last settled
        i128 shift = 0;  // what the clock of its limit shows beyond that
        i64 posted = 0;  // of its heads only the last posted counts
        i64 head = -1;   // the transfer posted
        std::size_t place = 0;  // among the active
        std::priority_queue<Transfer, std::vector<Transfer>, std::greater<>> transfers;
    };
    // The first transfer of a route, on the clock of its limit.
    struct Head {
        i128 reading;
        std::size_t route;
        i64 posted;
        bool operator>(const Head& o) const { return reading > o.reading; }
    };
    struct Clock {
        i128 shows = 0;
        i64 since = 0, rate = 0;
        std::vector<Head> heads;  // a heap

        i128 at(i64 t) const { return shows + static_cast<i128>(rate) * (t - since); }
    };
    struct End {
        Due due;
        Errand errand;
        bool operator>(const End& o) const { return due > o.due; }
    };

    // ---- routes

    // Links in the order of ties: by bandwidth, then by row.
    static std::vector<std::size_t> by_bandwidth(const Tables& tables) {
        std::vector<std::size_t> order(tables.channels.size());
        for (std::size_t c = 0; c < order.size(); ++c) order[c] = c;
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return tables.channels[a].bandwidth < tables.channels[b].bandwidth;
        });
        return order;
    }
    static std::vector<i64> bandwidths(const Tables& tables) {
        std::vector<i64> out;
        for (const std::size_t c : by_bandwidth(tables)) out.push_back(tables.channels[c].bandwidth);
        return out;
    }
    // The link that each channel is to the filling. Of channels that all paths
    // name alike only the first in the order of ties can ever be chosen; the others are none.
    static std::vector<std::size_t> links(const Tables& tables) {
        std::vector<std::vector<std::size_t>> named(tables.channels.size());
        for (std::size_t p = 0; p + 1 < tables.path_start.size(); ++p)
            for (const i64 c : tables.path(static_cast<i64>(p))) named[static_cast<std::size_t>(c)].push_back(p);
        std::map<std::vector<std::size_t>, bool> seen;
        std::vector<std::size_t> out(tables.channels.size(), kNone);
        std::size_t link = 0;
        for (const std::size_t c : by_bandwidth(tables)) {
            if (seen.try_emplace(named[c], true).second) out[c] = link;
            ++link;
        }
        return out;
    }

    std::size_t route_of(i64 path, i64 then) {
        auto& known = routes_of_[static_cast<std::size_t>(path)];
        for (const auto& [second, r] : known)
            if (second == then) return r;
        known.push_back({then, add_route(path, then)});
        return known.back().second;
    }
    std::size_t add_route(i64 path, i64 then) {
        std::map<std::size_t, i64> times;
        for (const i64 c : tables_.path(path)) ++times[static_cast<std::size_t>(c)];
        if (then >= 0)
            for (const i64 c : tables_.path(then)) ++times[static_cast<std::size_t>(c)];
        Route& route = routes_.emplace_back();
        std::vector<Shares::Use> uses;
        for (const auto& [c, n] : times) {
            route.channels.push_back({c, n});
            const i128 latency = static_cast<i128>(tables_.channels[c].latency) * n + route.latency;
            route.latency = latency < kFar ? static_cast<i64>(latency) : kFar;
            if (link_of_[c] != kNone) uses.push_back({link_of_[c], n});
        }
        return shares_.add_route(std::move(uses));
    }

    // ---- what changes

    void change(std::size_t r, i64 by) {
        shares_.change(r, by);
        soonest_ = now_;
        if (changed_.empty() || changed_.back() != r) changed_.push_back(r);
    }

    // The first transfer of a route is through.
    void finish(std::size_t r, i64 t) {
        settle(r, t);
        Route& route = routes_[r];
        const Transfer transfer = route.transfers.top();
        route.transfers.pop();
        // The last ns may have done more than there was.
        for (const Shares::Use& use : route.channels) work_[use.link].done -= use.times * (route.done - transfer.due);
        arrive(t, r, transfer.number, transfer.errand);
        const std::size_t limit = shares_.limit(r);
        change(r, -1);
        if (route.transfers.empty()) {
            ++route.posted;
            route.head = -1;
            route.done = 0;
            routes_[active_.back()].place = route.place;
            active_[route.place] = active_.back();
            active_.pop_back();
        } else {
            post(r, limit);
        }
    }

    void arrive(i64 t, std::size_t r, i64 number, Errand errand) {
        const i64 latency = routes_[r].latency;
        if (latency <= kFar - t) ends_.push({{t + latency, number}, errand});
    }

    // New rates for what changed at this instant.
    void share() {
        for (const std::size_t r : changed_) {
            shares_.share(
                r, [&](std::size_t q, std::size_t from) { move(q, from); },
                [&](std::size_t l) {
                    Clock& clock = clocks_[l];
                    clock.shows = clock.at(now_);
                    clock.since = now_;
                    clock.rate = shares_.rate(l);
                    changed_clocks_.push_back(l);
                });
        }
        for (const std::size_t r : changed_)
            if (!routes_[r].transfers.empty() && routes_[r].transfers.top().number != routes_[r].head) post(r, shares_.limit(r));
        for (const std::size_t l : changed_clocks_) through_.set(l, due(clocks_[l]));
        changed_.clear();
        changed_clocks_.clear();
    }

    // The route has another limit: it goes on where it is.
    void move(std::size_t r, std::size_t from) {
        Route& route = routes_[r];
        if (from != kNone) {
            route.shift += clocks_[from].at(now_);
            changed_clocks_.push_back(from);
        } else {
            route.shift = route.done;
        }
        route.shift -= clocks_[shares_.limit(r)].at(now_);
        post(r, shares_.limit(r));
    }

    void post(std::size_t r, std::size_t l) {
        Route& route = routes_[r];
        auto& heads = clocks_[l].heads;
        if (heads.size() > 64 && heads.size() > 4 * active_.size()) {
            std::erase_if(heads, [&](const Head& h) { return h.posted != routes_[h.route].posted; });
            std::make_heap(heads.begin(), heads.end(), std::greater<>());
        }
        route.head = route.transfers.top().number;
        heads.push_back({route.transfers.top().due - route.shift, r, ++route.posted});
        std::push_heap(heads.begin(), heads.end(), std::greater<>());
        changed_clocks_.push_back(l);
    }
    // The first head on a clock, past those that count no more.
    const Head* first(Clock& clock) {
        while (!clock.heads.empty() && clock.heads.front().posted != routes_[clock.heads.front().route].posted) {
            std::pop_heap(clock.heads.begin(), clock.heads.end(), std::greater<>());
            clock.heads.pop_back();
        }
        return clock.heads.empty() ? nullptr : &clock.heads.front();
    }
    i64 due(Clock& clock) {
        const Head* head = first(clock);
        if (head == nullptr) return kNever;
        const i128 left = head->reading - clock.shows + clock.rate - 1;
        // A 128-bit division is a call.
        const i128 ns = left <= std::numeric_limits<i64>::max() ? static_cast<i64>(left) / clock.rate : left / clock.rate;
        return ns > kFar - clock.since ? kNever : clock.since + static_cast<i64>(ns);
    }

    // ---- bytes moved

    // Counts the work of a route up to `t`.
    void settle(std::size_t r, i64 t) {
        const std::size_t limit = shares_.limit(r);
        if (limit == kNone) return;
        Route& route = routes_[r];
        const i128 more = clocks_[limit].at(t) + route.shift - route.done;
        if (more == 0) return;
        route.done += more;
        for (const Shares::Use& use : route.channels) work_[use.link].done += use.times * shares_.count(r) * more;
    }

    // It is `t`: what went before has its rates and its bins.
    void come_to(i64 t) {
        if (t == now_) return;
        if (!changed_.empty()) share();
        while (timeline_.bins().end(bin_) < t) write_down(timeline_.bins().end(bin_));
        now_ = t;
    }
    // Ends the bin in hand at `t`.
    void write_down(i64 t) {
        for (const std::size_t r : active_) settle(r, t);
        for (std::size_t c = 0; c < work_.size(); ++c) {
            Work& work = work_[c];
            if (work.done == work.before) continue;
            timeline_.move(c, bin_, static_cast<i64>(work.done / kWork - work.before / kWork));
            work.before = work.done;
        }
        ++bin_;
    }

    struct Work { i128 done = 0, before = 0; };

    const Tables& tables_;
    Timeline& timeline_;
    std::vector<std::size_t> link_of_;
    Shares shares_;
    std::vector<Clock> clocks_;  // by link
    WinnerTree<i64> through_;    // by link
    std::vector<Work> work_;     // by channel
    std::vector<std::vector<std::pair<i64, std::size_t>>> routes_of_;
    std::vector<Route> routes_;
    std::vector<std::size_t> active_, changed_, changed_clocks_;
    std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
    std::size_t bin_ = 0;
    i64 now_ = 0, started_ = 0, soonest_ = kNever;
};

}  // namespace dcsim
