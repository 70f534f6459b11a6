// Max-min fair rates by progressive filling, kept up as transfers come and go.
//
// Two things keep a change small, and both are exact:
// - A link whose transfers could all have a byte a second more, and still fit,
//   has at every stage of the filling a share above the least: it is never
//   chosen, and the rates are those of the other links without it. Only the
//   links that are not so *limit*, and a change reaches as far as they join.
// - A limiting link whose routes have no other is *alone*: one division gives
//   the rate of all of them. So that the links it does not fill need no look
//   each time, its routes are taken to ask for `cap`, at least their rate.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "ticks.hpp"

namespace dcsim {

// Transfers of one route (the same links, as often) have one rate.
class Shares {
  public:
    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
    struct Use { std::size_t link; i64 times; };

    // Links in the order in which ties go.
    explicit Shares(const std::vector<i64>& bandwidths) {
        for (const i64 b : bandwidths) links_.emplace_back().bandwidth = b;
    }

    // `uses` names each link once.
    std::size_t add_route(std::vector<Use> uses) {
        Route& route = routes_.emplace_back();
        route.place.resize(uses.size());
        route.uses = std::move(uses);
        return routes_.size() - 1;
    }

    // One more or less under way; the rates follow with `share`.
    void change(std::size_t r, i64 by) {
        Route& route = routes_[r];
        if (route.count == 0) enter(r);
        route.count += by;
        for (const Use& use : route.uses) links_[use.link].named += by * use.times;
        if (route.count == 0) leave(r);
    }
    i64 count(std::size_t r) const { return routes_[r].count; }
    // The link that gives a route its rate, and the rate a link gives.
    std::size_t limit(std::size_t r) const { return routes_[r].limit; }
    i64 rate(std::size_t l) const { return links_[l].rate; }

    // Rates after a change of route `r`. Calls `moved(route, from)` for each that
    // has another limit now, and `rated(link)` for each link with another rate.
    template <class Moved, class Rated>
    void share(std::size_t r, Moved&& moved, Rated&& rated) {
        if (quick(r, moved, rated)) return;
        if (routes_[r].count > 0 && limits(routes_[r]) == 0) links_[tightest(routes_[r])].limits = true;
        do {
            gather(r);
            fill();
        } while (overfull());
        for (const std::size_t q : region_) {
            Route& route = routes_[q];
            const std::size_t from = std::exchange(route.limit, route.next);
            if (from != route.limit) moved(q, from);
        }
        for (const std::size_t l : region_links_) {
            if (std::exchange(links_[l].rate, links_[l].next) != links_[l].next) rated(l);
            relax(links_[l]);
        }
        for (const std::size_t l : region_links_) loosen(l);
    }

  private:
    struct Member { std::size_t route, use; };
    struct Link {
        i64 bandwidth = 0;
        i64 named = 0;  // times that transfers under way name it
        i128 asked = 0;  // what they ask for and a byte/s more each, at least
        i64 rate = 0, cap = 0;
        bool limits = false, alone = false;
        std::vector<Member> members;  // routes with transfers under way
        // of the filling
        i64 left = 0, open = 0, next = 0;
        std::size_t mark = 0;
    };
    struct Route {
        std::vector<Use> uses;
        std::vector<std::size_t> place;  // among the members of each link
        i64 count = 0;
        std::size_t limit = kNone;
        i128 asks = 0;
        // of the filling
        std::size_t next = kNone, mark = 0;
        bool filled = false;
    };

    void enter(std::size_t r) {
        Route& route = routes_[r];
        for (std::size_t i = 0; i < route.uses.size(); ++i) {
            auto& members = links_[route.uses[i].link].members;
            route.place[i] = members.size();
            members.push_back({r, i});
        }
    }
    void leave(std::size_t r) {
        Route& route = routes_[r];
        ask(route, 0);
        route.limit = kNone;
        for (std::size_t i = 0; i < route.uses.size(); ++i) {
            auto& members = links_[route.uses[i].link].members;
            const Member last = members.back();
            members[route.place[i]] = last;
            routes_[last.route].place[last.use] = route.place[i];
            members.pop_back();
        }
    }

    void ask(Route& route, i128 asks) {
        for (const Use& use : route.uses) links_[use.link].asked += use.times * (asks - route.asks);
        route.asks = asks;
    }
    static i128 asks(const Route& route, i64 rate) { return route.count * (static_cast<i128>(rate) + 1); }
    static i64 share_of(i64 left, i64 open) { return std::max<i64>(1, left / open); }

    i64 limits(const Route& route) const {
        i64 n = 0;
        for (const Use& use : route.uses) n += links_[use.link].limits;
        return n;
    }

    // The common case: the only link that limits the route is alone.
    template <class Moved, class Rated>
    bool quick(std::size_t r, Moved&& moved, Rated&& rated) {
        Route& route = routes_[r];
        std::size_t l = kNone;
        for (const Use& use : route.uses) {
            if (!links_[use.link].limits) continue;
            if (l != kNone) return false;
            l = use.link;
        }
        if (l == kNone) return route.count == 0;
        Link& link = links_[l];
        if (!link.alone) return false;
        if (link.named == 0) return true;
        const i64 rate = share_of(link.bandwidth, link.named);
        if (rate > link.cap) return false;
        if (route.count > 0) {
            ask(route, asks(route, link.cap));
            for (const Use& use : route.uses)
                if (use.link != l && over(links_[use.link])) return false;
            const std::size_t from = std::exchange(route.limit, l);
            if (from != l) moved(r, from);
        }
        if (std::exchange(link.rate, rate) != rate) rated(l);
        return true;
    }

    static bool over(const Link& link) { return link.asked > link.bandwidth; }

    // The link of a route that none limits yet most likely to do so: a guess.
    std::size_t tightest(const Route& route) const {
        std::size_t best = kNone;
        i128 least = 0;
        for (const Use& use : route.uses) {
            const Link& link = links_[use.link];
            const i128 room = (link.bandwidth - link.asked) / use.times;
            if (best != kNone && room >= least) continue;
            best = use.link;
            least = room;
        }
        return best;
    }

    // What a change of route `r` reaches: over limiting links, to all their routes.
    void gather(std::size_t r) {
        ++marks_;
        region_.clear();
        region_links_.clear();
        reach(routes_[r]);
        for (std::size_t i = 0; i < region_links_.size(); ++i)
            for (const Member& member : links_[region_links_[i]].members) {
                Route& route = routes_[member.route];
                if (std::exchange(route.mark, marks_) == marks_) continue;
                route.filled = false;
                region_.push_back(member.route);
                reach(route);
            }
    }
    void reach(const Route& route) {
        for (const Use& use : route.uses) {
            Link& link = links_[use.link];
            if (!link.limits || std::exchange(link.mark, marks_) == marks_) continue;
            link.left = link.bandwidth;
            link.open = link.named;
            link.next = 0;
            region_links_.push_back(use.link);
        }
    }

    // Progressive filling. A share only grows while others are given theirs, so
    // one that is out of date goes back to its place.
    void fill() {
        shares_.clear();
        for (const std::size_t l : region_links_)
            if (links_[l].open > 0) shares_.push_back({share_of(links_[l].left, links_[l].open), l});
        std::make_heap(shares_.begin(), shares_.end(), std::greater<>());
        while (!shares_.empty()) {
            std::pop_heap(shares_.begin(), shares_.end(), std::greater<>());
            const auto [rate, l] = shares_.back();
            shares_.pop_back();
            Link& link = links_[l];
            if (link.open == 0) continue;
            if (share_of(link.left, link.open) == rate) {
                give(l, rate);
            } else {
                shares_.push_back({share_of(link.left, link.open), l});
                std::push_heap(shares_.begin(), shares_.end(), std::greater<>());
            }
        }
    }
    void give(std::size_t l, i64 rate) {
        links_[l].next = rate;
        for (const Member& member : links_[l].members) {
            Route& route = routes_[member.route];
            if (std::exchange(route.filled, true)) continue;
            route.next = l;
            for (const Use& use : route.uses) {
                Link& link = links_[use.link];
                if (!link.limits) continue;
                link.left -= route.count * use.times * rate;
                link.open -= route.count * use.times;
            }
            ask(route, asks(route, rate));
        }
    }

    // Did the filling leave out a link that limits too?
    bool overfull() {
        bool found = false;
        for (const std::size_t q : region_)
            for (const Use& use : routes_[q].uses) {
                Link& link = links_[use.link];
                if (link.limits || !over(link)) continue;
                link.limits = found = true;
            }
        return found;
    }

    // A link that gives nobody its rate and is not full limits no more.
    static void relax(Link& link) {
        if (link.next == 0 && !over(link)) link.limits = link.alone = false;
    }

    // Is a limiting link alone, and how far may its rate grow?
    void loosen(std::size_t l) {
        Link& link = links_[l];
        link.cap = link.rate;
        if (!link.limits) return;
        link.alone = std::all_of(link.members.begin(), link.members.end(),
                                 [&](const Member& m) { return limits(routes_[m.route]) == 1; });
        if (!link.alone) return;
        touched_.clear();
        for (const Member& member : link.members)
            for (const Use& use : routes_[member.route].uses) {
                if (use.link == l) continue;
                Link& other = links_[use.link];
                if (other.open == 0) touched_.push_back(use.link);
                other.open += routes_[member.route].count * use.times;
            }
        // Up to twice the rate, and half of the room that is left: others may want it too.
        i128 more = touched_.empty() ? std::numeric_limits<i64>::max() / 2 - link.rate : link.rate + 1;
        for (const std::size_t k : touched_) {
            Link& other = links_[k];
            more = std::min<i128>(more, (other.bandwidth - other.asked) / 2 / other.open);
            other.open = 0;
        }
        link.cap = static_cast<i64>(link.rate + more);
        for (const Member& member : link.members) ask(routes_[member.route], asks(routes_[member.route], link.cap));
    }

    std::vector<Link> links_;
    std::vector<Route> routes_;
    std::size_t marks_ = 0;
    std::vector<std::size_t> region_, region_links_, touched_;
    std::vector<std::pair<i64, std::size_t>> shares_;
};

}  // namespace dcsim
