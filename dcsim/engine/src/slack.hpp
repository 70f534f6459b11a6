// The prefix forest in the HBM of a replica: nodes that requests use, and nodes cached in what they leave free.
#pragma once

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>
#include <vector>

#include "batch.hpp"
#include "slots.hpp"

namespace dcsim {

// Whoever is here has its parent here: paths come in from the root on and leave from the leaf on. A path that
// is touched goes to the back of the list of cached nodes deepest first, so its front is always a leaf.
class Slack {
  public:
    // Of a path: the deepest node here (-1: none), and how many tokens and nodes there are down to it.
    struct Hit { i64 node = -1, tokens = 0, nodes = 0; };

    Slack() = default;  // off
    // `room`: bytes for holds and cache; `whole`: what is computed comes here too, not only what is brought.
    Slack(const Tables& tables, Timeline& timeline, std::size_t cache, std::size_t adapters, i64 room, bool whole)
        : tables_(&tables), timeline_(&timeline), kinds_{Kind{cache}, Kind{adapters}}, room_(room), whole_(whole) {}

    bool on() const { return tables_ != nullptr; }

    // The longest prefix of what it reads.
    Hit hit(i64 reads) const {
        Hit hit;
        const std::uint32_t deepest = find(here(reads));
        if (deepest != Slots::kNone) hit.node = entries_[deepest].node;
        for (std::uint32_t e = deepest; e != Slots::kNone; e = entries_[e].above) {
            hit.tokens += node(entries_[e].node).tokens;
            ++hit.nodes;
        }
        return hit;
    }

    // ---- what requests do. Instants are ticks; what they hold twice comes off the batch.

    // One that reads is admitted, and uses from now on what is here.
    Hit admit(Batch& batch, i128 t, i64 reads) {
        const Hit here = hit(reads);
        for (std::uint32_t e = find(here.node); e != Slots::kNone; e = entries_[e].above) {
            flow(t, kind(e), kRead, bytes_of(e));
            use(batch, t, e);
        }
        return here;
    }
    // Bytes in use of what it reads: it would hold them twice.
    i64 shares(i64 reads) const {
        std::uint32_t e = find(here(reads));
        while (e != Slots::kNone && entries_[e].users == 0) e = entries_[e].above;
        i64 bytes = 0;
        for (; e != Slots::kNone && !brought(e); e = entries_[e].above) bytes += bytes_of(e);
        return bytes;
    }
    // Its prefill has ended: it uses all that it reads, where it used the path of `used`. Down to where.
    i64 prefilled(Batch& batch, i128 t, i64 reads, i64 used) {
        reads = here(reads);
        if (reads == used) return used;
        for (std::uint32_t e = come(t, reads, true); e != Slots::kNone && entries_[e].node != used; e = entries_[e].above)
            use(batch, t, e);
        return reads;
    }
    void completed(Batch& batch, i128 t, i64 used, i64 leaves) {
        leave(batch, t, used, used);
        leaves = here(leaves);
        if (leaves < 0) return;
        come(t, leaves, false);
        leave(batch, t, leaves, -1);
    }
    // `fed`: tokens of its prompt that are computed; all of what it reads is used once all are.
    void preempted(Batch& batch, i128 t, i64 reads, i64 used, i64 fed) {
        walk(here(reads));
        i64 computed = -1;
        for (auto n = path_.rbegin(); n != path_.rend() && node(*n).tokens <= fed; ++n) {
            fed -= node(*n).tokens;
            computed = *n;
        }
        // parents have lower rows
        if (computed > used) come(t, computed, false);
        leave(batch, t, std::max(computed, used), used);
    }

    // ---- what is brought: it is in use by requests, and part of none.

    // Bytes of it that come into use with one that reads.
    i64 brings(i64 reads) const {
        i64 bytes = 0;
        for (i64 n = tables_->last_brought(reads); n >= 0; n = node(n).parent) {
            const std::uint32_t e = slots_.find(n);
            if (e == Slots::kNone || entries_[e].users == 0) bytes += node(n).bytes;
        }
        return bytes;
    }
    bool has(i64 n) const { return slots_.find(n) != Slots::kNone; }
    // It comes, in flight and in use; its parent is here.
    void fly(Batch& batch, i128 t, i64 n) {
        const std::uint32_t e = come(t, n, true);
        use(batch, t, e);
        in_flight_[n] = {};
    }
    // Whether it is in flight; then `loading` waits for it.
    bool wait(i64 n, i64 loading) {
        const auto found = in_flight_.find(n);
        if (found == in_flight_.end()) return false;
        found->second.push_back(loading);
        return true;
    }
    // It is here; who has waited for it.
    std::vector<i64> land(i64 n) {
        std::vector<i64> waiting = std::move(in_flight_.at(n));
        in_flight_.erase(n);
        return waiting;
    }

    // ---- room

    // Evicts what has no room beside the holds of the coming iteration.
    void make_room(const Batch& batch, i128 t) { evict(t, room_ - batch.hold().a); }

    // Evicts what had no room in the next `begun` iterations after the one that came at `start`.
    void run(const Batch& batch, i128 start, i64 begun) {
        const Line& hold = batch.hold();
        if (hold.b <= 0) return;
        while (cached_ > 0) {
            const i64 k = (room_ - cached_ - hold.a) / hold.b + 1;  // the first for which it is too much
            if (k > begun) return;
            evict(start + batch.cost().sum(k), room_ - hold.at(k));
        }
    }
    // The replica fails.
    void lose(Batch& batch, i128 t) {
        while (front_ != Slots::kNone) drop(t, front_, kLost);
        hold_twice(batch, -twice_);
        in_flight_.clear();
        entries_.clear();
        free_.clear();
        slots_.clear();
    }
    void finish(i128 t) { settle(t); }

  private:
    struct Entry {
        i64 node = -1, users = 0;
        std::uint32_t above = Slots::kNone;                          // its parent
        std::uint32_t before = Slots::kNone, after = Slots::kNone;  // cached: in the list, by use
    };

    // Cached bytes of what is computed, and of what is brought.
    struct Kind { std::size_t account; i64 cached = 0; };

    const Node& node(i64 n) const { return tables_->nodes[static_cast<std::size_t>(n)]; }
    // The last node of a path that may be here.
    i64 here(i64 n) const { return whole_ ? n : tables_->last_brought(n); }
    bool brought(std::uint32_t e) const { return tables_->is_brought(entries_[e].node); }
    std::size_t kind(std::uint32_t e) const { return brought(e) ? 1 : 0; }
    i64 bytes_of(std::uint32_t e) const { return node(entries_[e].node).bytes; }
    // The deepest node of the path that is here.
    std::uint32_t find(i64 n) const {
        std::uint32_t e = Slots::kNone;
        for (; n >= 0 && e == Slots::kNone; n = node(n).parent) e = slots_.find(n);
        return e;
    }
    // The path of a node, deepest first, into path_.
    void walk(i64 n) {
        path_.clear();
        for (; n >= 0; n = node(n).parent) path_.push_back(n);
    }

    // What is not here of a path comes, cached, or for a use that follows. The entry of its last node.
    std::uint32_t come(i128 t, i64 n, bool for_use) {
        path_.clear();
        std::uint32_t e = Slots::kNone;
        for (; n >= 0 && (e = slots_.find(n)) == Slots::kNone; n = node(n).parent) path_.push_back(n);
        for (auto missing = path_.rbegin(); missing != path_.rend(); ++missing) {
            e = create(*missing, e);
            if (for_use)
                entries_[e].users = kFresh;
            else
                cache(t, e);
        }
        return e;
    }
    std::uint32_t create(i64 n, std::uint32_t above) {
        auto e = static_cast<std::uint32_t>(entries_.size());
        if (free_.empty()) {
            entries_.emplace_back();
        } else {
            e = free_.back();
            free_.pop_back();
        }
        entries_[e] = {n, 0, above, Slots::kNone, Slots::kNone};
        slots_.insert(n, e);
        return e;
    }

    void use(Batch& batch, i128 t, std::uint32_t e) {
        const i64 before = twice(e);
        if (entries_[e].users == 0) {
            unlink(e);
            change(t, e, -1, kMoved);
        }
        entries_[e].users = std::max<i64>(0, entries_[e].users) + 1;
        hold_twice(batch, twice(e) - before);
    }
    // Touches the path of `n`; a request that used down to `used` does no more.
    void leave(Batch& batch, i128 t, i64 n, i64 used) {
        bool in_use = false;
        for (std::uint32_t e = n < 0 ? Slots::kNone : slots_.find(n); e != Slots::kNone; e = entries_[e].above) {
            Entry& entry = entries_[e];
            in_use = in_use || entry.node == used;
            if (!in_use) {
                if (entry.users > 0) continue;
                unlink(e);
                link(e);
            } else {
                const i64 before = twice(e);
                if (--entry.users == 0) cache(t, e);
                hold_twice(batch, twice(e) - before);
            }
        }
    }
    // Bytes that are held too often: each user holds what is computed, nobody what is brought.
    i64 twice(std::uint32_t e) const {
        const i64 users = std::max<i64>(0, entries_[e].users);
        return bytes_of(e) * (brought(e) ? -std::min<i64>(1, users) : std::max<i64>(0, users - 1));
    }
    void hold_twice(Batch& batch, i64 bytes) {
        twice_ += bytes;
        batch.keep(-bytes, -bytes);
    }
    void cache(i128 t, std::uint32_t e) {
        link(e);
        change(t, e, 1, kTaken);
    }

    void evict(i128 t, i64 slack) {
        while (cached_ > std::max<i64>(0, slack)) drop(t, front_, kEvicted);
    }
    void drop(i128 t, std::uint32_t e, Cause cause) {
        unlink(e);
        change(t, e, -1, cause);
        slots_.erase(entries_[e].node);
        free_.push_back(e);
    }

    void change(i128 t, std::uint32_t e, i64 sign, Cause cause) {
        settle(t);
        cached_ += sign * bytes_of(e);
        kinds_[kind(e)].cached += sign * bytes_of(e);
        flow(t, kind(e), cause, bytes_of(e));
    }
    // In the bin that the tick is in, as what is held.
    void flow(i128 t, std::size_t kind, Cause cause, i64 bytes) {
        timeline_->flow(kinds_[kind].account, cause, static_cast<i64>(t / kTicksPerNs), bytes);
    }
    void settle(i128 t) {
        if (t > since_)
            for (const Kind& kind : kinds_)
                if (kind.cached > 0) timeline_->hold_ticks(kind.account, kind.cached, since_, t);
        since_ = t;
    }

    void link(std::uint32_t e) {
        entries_[e].before = back_;
        entries_[e].after = Slots::kNone;
        (back_ == Slots::kNone ? front_ : entries_[back_].after) = e;
        back_ = e;
    }
    void unlink(std::uint32_t e) {
        const std::uint32_t before = entries_[e].before, after = entries_[e].after;
        (before == Slots::kNone ? front_ : entries_[before].after) = after;
        (after == Slots::kNone ? back_ : entries_[after].before) = before;
    }

    static constexpr i64 kFresh = -1;  // comes with its first user

    const Tables* tables_ = nullptr;
    Timeline* timeline_ = nullptr;
    std::array<Kind, 2> kinds_{};
    i64 room_ = 0;
    bool whole_ = true;
    std::unordered_map<i64, std::vector<i64>> in_flight_;  // brought nodes on their way, and who waits for them
    Slots slots_;
    std::vector<Entry> entries_;
    std::vector<std::uint32_t> free_;
    std::uint32_t front_ = Slots::kNone, back_ = Slots::kNone;  // cached nodes, the first used in front
    i64 cached_ = 0, twice_ = 0;
    i128 since_ = 0;  // tick up to which the cache is written down
    std::vector<i64> path_;
};

}  // namespace dcsim
