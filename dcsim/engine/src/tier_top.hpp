// The most that the HBM pools of all replicas hold together, bin by bin.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "timeline.hpp"

namespace dcsim {

// What a replica holds from tick `began` on: iterations of `cost`, of which each has its `top`.
struct Holding {
    i128 began = 0;
    Line cost{1, 0}, top{};

    // In the last tick before x.
    i64 before(i128 x) const { return top.b == 0 ? top.a : top.at(cost.steps_within(x - began - 1)); }
};

// Of each replica the stretches come one after another without a gap, and in none does what it holds
// fall: so all together hold the most just before some stretch ends, or a bin does.
//
// Stretches are kept for a while and then looked at from the last to the first. Going back, what a
// replica holds only falls until the stretch before is met, so what it was last seen to hold is a
// bound. Where these bounds together are no more than the most found so far, nobody is looked at;
// else replica after replica is, until they are, or all have been.
class TierTop {
  public:
    // `apart`: it only keeps what it is told, for one of all parts to absorb.
    TierTop(std::size_t replicas, Timeline& timeline, bool apart = false)
        : timeline_(timeline), apart_(apart), told_(64 + 8 * replicas), under_way_(replicas), now_(replicas), bound_(replicas, 0),
          bin_end_(timeline.bins().end(0)) {}

    // With one replica its pool's own top is the sum.
    bool needed() const { return now_.size() > 1; }

    // Of all before `t` ns only what each replica holds `under_way` has not been told.
    template <class UnderWay>
    void come_to(i64 t, UnderWay&& under_way) {
        if ((t <= bin_end_ || apart_) && count_ < told_.size()) [[likely]] return;
        if (apart_) return told_.resize(2 * count_);
        while (t > bin_end_) close(bin_end_, under_way);
        if (count_ == told_.size() && t - 1 > since_) close(t - 1, under_way);
        if (count_ == told_.size()) told_.resize(2 * count_);
    }

    // What replica r held until tick `end`, in iteration k at the last.
    void tell(std::size_t r, const Holding& holding, i128 end, i64 k) {
        if (end <= holding.began) return;
        if (holding.top.b < 0) return tell_falling(r, holding, end);
        told_[count_++] = {holding, end, holding.top.at(k), r};
    }

    // What a part has been told of those that are its own.
    template <class Mine>
    void absorb(TierTop& part, Mine&& mine) {
        const std::size_t known = count_;
        for (std::size_t i = 0; i < part.count_; ++i) {
            // A part, which looks at nothing, tells all iterations of a falling stretch, also those looked at under way.
            if (!mine(part.told_[i].replica) || part.told_[i].end <= ticks_of(since_)) continue;
            if (count_ == told_.size()) told_.resize(2 * count_);
            told_[count_++] = part.told_[i];
        }
        part.count_ = 0;
        const auto first = told_.begin(), begin = first + static_cast<std::ptrdiff_t>(known), last = first + static_cast<std::ptrdiff_t>(count_);
        if (!std::is_sorted(begin, last, sooner)) std::sort(begin, last, sooner);
        std::inplace_merge(first, begin, last, sooner);
    }

    // Everything has been told until t ns, the end of the run.
    void finish(i64 t) {
        close(t, [t](std::size_t) { return Holding{ticks_of(t), {1, 0}, {}}; });
    }

  private:
    struct Stretch {
        Holding holding;
        i128 end;
        i64 last;
        std::size_t replica;
    };
    static bool sooner(const Stretch& a, const Stretch& b) { return a.end < b.end; }

    // Where live bytes fall from step to step each iteration is a stretch of its own.
    void tell_falling(std::size_t r, const Holding& holding, i128 end) {
        i128 began = holding.began;
        for (i64 k = 0; began < end; ++k) {
            const i128 until = std::min(began + holding.cost.at(k), end);
            const i64 bytes = holding.top.at(k);
            if (count_ == told_.size()) told_.resize(2 * count_);
            if (until > ticks_of(since_)) told_[count_++] = {{began, {1, 0}, {bytes, 0}}, until, bytes, r};
            began = until;
        }
    }

    // Looks at all from `since_` to t ns.
    template <class UnderWay>
    void close(i64 t, UnderWay&& under_way) {
        const i128 end = ticks_of(t);
        sum_ = 0;
        for (std::size_t r = 0; r < now_.size(); ++r) {
            const Holding& holding = under_way_[r] = under_way(r);
            now_[r] = &holding;
            bound_[r] = 0;
            if (holding.began >= end) continue;
            if (holding.top.b < 0)
                tell_falling(r, holding, end);
            else
                sum_ += bound_[r] = holding.before(end);
        }
        const auto first = told_.begin(), last = first + static_cast<std::ptrdiff_t>(count_);
        // Within a nanosecond they may be told in any order.
        if (!std::is_sorted(first, last, sooner)) std::sort(first, last, sooner);
        auto next = last;
        while (next != first && next[-1].end > end) meet(*--next);
        const auto past = next;
        i64& most = timeline_.tier_top(kHbm, bin_);
        for (i128 x = end;; x = next[-1].end) {
            while (next != first && next[-1].end == x) meet(*--next);
            if (sum_ > most) most = look(x, most);
            if (next == first) break;
        }
        count_ = static_cast<std::size_t>(std::move(past, last, first) - first);
        since_ = t;
        if (t == bin_end_) bin_end_ = timeline_.bins().begin(++bin_ + 1);
    }
    void meet(const Stretch& stretch) {
        sum_ += stretch.last - bound_[stretch.replica];
        bound_[stretch.replica] = stretch.last;
        now_[stretch.replica] = &stretch.holding;
    }
    // The larger of `most` and what all hold in the last tick before x.
    i64 look(i128 x, i64 most) {
        for (std::size_t n = 0; n < now_.size() && sum_ > most; ++n) {
            const std::size_t r = next_;
            next_ = r + 1 < now_.size() ? r + 1 : 0;
            const i64 bytes = now_[r]->before(x);
            sum_ += bytes - bound_[r];
            bound_[r] = bytes;
        }
        return std::max(most, sum_);
    }

    Timeline& timeline_;
    bool apart_;
    std::vector<Stretch> told_;  // the first count_ of them
    std::vector<Holding> under_way_;
    std::vector<const Holding*> now_;  // of each replica
    std::vector<i64> bound_;
    std::size_t count_ = 0, bin_ = 0, next_ = 0;
    i64 bin_end_, since_ = 0, sum_ = 0;
};

// What the pools of a tier below HBM hold together, of several parts.
struct LevelChange {
    i64 time;
    Tier tier;
    i64 bytes;
};
class TierLevels {
  public:
    explicit TierLevels(Timeline& timeline) : timeline_(timeline) {}

    void absorb(std::vector<LevelChange>& changes) {
        changes_.insert(changes_.end(), changes.begin(), changes.end());
        changes.clear();
    }
    // All changes until now have been absorbed.
    void settle() {
        std::stable_sort(changes_.begin(), changes_.end(), [](const LevelChange& a, const LevelChange& b) { return a.time < b.time; });
        for (const LevelChange& c : changes_) change(c);
        changes_.clear();
    }
    void finish(i64 t) {
        for (const Tier tier : {kDram, kNand}) change({t, tier, 0});
    }

  private:
    void change(const LevelChange& c) {
        levels_[c.tier].change(c.time, c.bytes, [&](i64 bytes, i64 from, i64 to) { timeline_.raise(c.tier, bytes, from, to); });
    }

    Timeline& timeline_;
    std::vector<LevelChange> changes_;
    std::array<Level, kTiers> levels_;
};

}  // namespace dcsim
