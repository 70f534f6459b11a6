// Bytes over time, per account and pool, in bins; flows and channel traffic.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <vector>

#include "tables.hpp"

namespace dcsim {

struct Bins {
    Bins(i64 wide, i64 end) : width(wide), horizon(end), last((end - 1) / wide) {}

    i64 width, horizon, last;

    std::size_t count() const { return static_cast<std::size_t>(last) + 1; }
    std::size_t of(i64 t) const { return static_cast<std::size_t>(std::min(t / width, last)); }
    i64 begin(std::size_t bin) const { return static_cast<i64>(bin) * width; }
    i64 end(std::size_t bin) const { return std::min(begin(bin) + width, horizon); }
};

struct AccountRow { i64 pool, category, service, klass; };

// Integrals arrive in order of time for each account, so only the bin in hand
// needs 128 bits; finished bins keep their mean. Tables are bin by bin, so that
// what is written at one time lies together.
class Timeline {
  public:
    Timeline(Bins bins, std::size_t pools, std::size_t channels)
        : bins_(bins), pools_(pools), channels_(channels), top_(pools * bins.count(), 0),
          tier_top_(kTiers * bins.count(), 0), moved_(channels * bins.count(), 0) {}

    const Bins& bins() const { return bins_; }

    std::size_t add_account(AccountRow row) {
        accounts_.push_back(row);
        open_.push_back({});
        return accounts_.size() - 1;
    }
    // All accounts are known now.
    void open() {
        mean_.assign(accounts_.size() * bins_.count(), 0);
        flow_.assign(accounts_.size() * kCauses * bins_.count(), 0);
    }

    void add(std::size_t account, std::size_t bin, i128 byte_ticks) {
        Open& open = open_[account];
        if (open.bin != bin) {
            settle(account);
            open.bin = bin;
        }
        open.sum += byte_ticks;
    }

    // `bytes` held from `from` to `to` (ns), cut at the horizon.
    void hold(std::size_t account, i64 bytes, i64 from, i64 to) {
        to = std::min(to, bins_.horizon);
        if (bytes == 0) return;
        for (i64 t = from; t < to;) {
            const std::size_t bin = bins_.of(t);
            const i64 end = std::min(to, bins_.end(bin));
            add(account, bin, static_cast<i128>(bytes) * ticks_of(end - t));
            t = end;
        }
    }

    // The same from tick to tick, within the horizon.
    void hold_ticks(std::size_t account, i64 bytes, i128 from, i128 to) {
        for (i128 t = from; t < to;) {
            const std::size_t bin = bins_.of(static_cast<i64>(t / kTicksPerNs));
            const i128 end = std::min(to, ticks_of(bins_.end(bin)));
            add(account, bin, bytes * (end - t));
            t = end;
        }
    }

    void raise(std::size_t pool, std::size_t bin, i64 bytes) {
        i64& top = top_[bin * pools_ + pool];
        top = std::max(top, bytes);
    }
    void raise(std::size_t pool, i64 bytes, i64 from, i64 to) {
        each_bin(from, to, [&](std::size_t bin) { raise(pool, bin, bytes); });
    }
    // The same of all pools of a tier together.
    void raise(Tier tier, i64 bytes, i64 from, i64 to) {
        each_bin(from, to, [&](std::size_t bin) {
            i64& top = tier_top(tier, bin);
            top = std::max(top, bytes);
        });
    }
    i64& tier_top(Tier tier, std::size_t bin) { return tier_top_[bin * kTiers + static_cast<std::size_t>(tier)]; }
    // A tier of this one pool holds what the pool does.
    void tier_is(Tier tier, std::size_t pool) {
        for (std::size_t bin = 0; bin < bins_.count(); ++bin) tier_top(tier, bin) = top_[bin * pools_ + pool];
    }

    void flow(std::size_t account, Cause cause, i64 t, i64 bytes) {
        flow_[(bins_.of(t) * accounts_.size() + account) * kCauses + static_cast<std::size_t>(cause)] += bytes;
    }

    void move(std::size_t channel, std::size_t bin, i64 bytes) { moved_[bin * channels_ + channel] += bytes; }

    void finish() {
        for (std::size_t a = 0; a < accounts_.size(); ++a) settle(a);
    }

    // What another has of what this has nothing of.
    void add(const Timeline& other) {
        const auto join = [](std::vector<i64>& to, const std::vector<i64>& from) {
            if (!from.empty()) std::transform(to.begin(), to.end(), from.begin(), to.begin(), std::plus<>());
        };
        join(mean_, other.mean_);
        join(top_, other.top_);
        join(tier_top_, other.tier_top_);
        join(flow_, other.flow_);
        join(moved_, other.moved_);
    }

    const std::vector<AccountRow>& accounts() const { return accounts_; }
    std::vector<i64>& mean() { return mean_; }
    std::vector<i64>& top() { return top_; }
    std::vector<i64>& tier_top() { return tier_top_; }
    std::vector<i64>& flow() { return flow_; }
    std::vector<i64>& moved() { return moved_; }

  private:
    struct Open { std::size_t bin = 0; i128 sum = 0; };

    template <class Act>
    void each_bin(i64 from, i64 to, Act&& act) {
        to = std::min(to, bins_.horizon);
        if (from >= to) return;
        for (std::size_t bin = bins_.of(from); bin <= bins_.of(to - 1); ++bin) act(bin);
    }
    void settle(std::size_t account) {
        Open& open = open_[account];
        if (open.sum != 0) {
            const i128 width = ticks_of(bins_.end(open.bin) - bins_.begin(open.bin));
            mean_[open.bin * accounts_.size() + account] = static_cast<i64>(open.sum / width);
        }
        open.sum = 0;
    }

    Bins bins_;
    std::size_t pools_, channels_;
    std::vector<AccountRow> accounts_;
    std::vector<Open> open_;
    std::vector<i64> mean_, top_, tier_top_, flow_, moved_;
};

// Bytes that change at whole nanoseconds and stay in between.
class Level {
  public:
    i64 bytes() const { return bytes_; }

    template <class Settle>
    void change(i64 t, i64 delta, Settle&& settle) {
        if (t > since_) settle(bytes_, since_, t);
        since_ = t;
        bytes_ += delta;
    }

  private:
    i64 bytes_ = 0;
    i64 since_ = 0;
};

}  // namespace dcsim
