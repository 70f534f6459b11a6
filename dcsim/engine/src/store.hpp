// DRAM and NAND: what lies in them, what moves between them, how long it stays.
#pragma once

#include <deque>
#include <map>
#include <queue>
#include <utility>

#include "timeline.hpp"


namespace dcsim {

// An instant with its place among equals.
struct Due {
    i64 time, sequence;
    bool operator<(const Due& o) const { return time != o.time ? time < o.time : sequence < o.sequence; }
    bool operator>(const Due& o) const { return o < *this; }
};
inline constexpr Due kNoDue{kNever, kNever};

inline constexpr i64 kFar = i64{1} << 61;

// Links: first come first served on each, a transfer cut through all of its path.
class Channels {
  public:
    Channels(const Tables& tables, Timeline& timeline)
        : tables_(tables), timeline_(timeline), busy_(tables.channels.size(), 0) {}

    // Books `bytes` from `t` on over one or two paths; gives the time of the end.
    i64 book(i64 t, i64 bytes, i64 path, i64 then = -1) {
        Booking booking{t, 0};
        for (const i64 c : tables_.path(path)) add(booking, t, bytes, static_cast<std::size_t>(c));
        if (then >= 0)
            for (const i64 c : tables_.path(then)) add(booking, t, bytes, static_cast<std::size_t>(c));
        return booking.end + booking.latency;
    }

  private:
    struct Booking { i64 end, latency; };

    void add(Booking& booking, i64 t, i64 bytes, std::size_t c) {
        const Channel& channel = tables_.channels[c];
        const i128 scaled = static_cast<i128>(bytes) * 1'000'000'000 + channel.bandwidth - 1;
        const i128 duration = scaled / channel.bandwidth;
        const i64 from = std::max(t, busy_[c]);
        // Beyond 73 years it is never; so that no sum leaves 64 bits.
        busy_[c] = from + duration < kFar ? static_cast<i64>(from + duration) : std::max(from, kFar);
        if (busy_[c] > from) timeline_.move(c, bytes, from, busy_[c]);
        booking.end = std::max(booking.end, busy_[c]);
        booking.latency += channel.latency;
    }

    const Tables& tables_;
    Timeline& timeline_;
    std::vector<i64> busy_;
};

// Makes room in a pool by evicting what may go.
class Evictor {
  public:
    virtual void make_room(i64 t, i64 pool, i64 bytes) = 0;

  protected:
    ~Evictor() = default;
};

// The DRAM and NAND pools: bytes in use, by account.
class Pools {
  public:
    Pools(const Tables& tables, Timeline& timeline, bool lifted)
        : timeline_(timeline), used_(tables.pools.size()) {
        for (const Pool& p : tables.pools) capacity_.push_back(lifted && p.tier != kHbm ? kNever : p.capacity);
    }

    std::size_t add_account(AccountRow row) {
        levels_.emplace_back();
        accounts_.push_back(timeline_.add_account(row));
        return levels_.size() - 1;
    }
    std::size_t timeline_account(std::size_t account) const { return accounts_[account]; }

    i64 capacity(i64 pool) const { return capacity_[static_cast<std::size_t>(pool)]; }
    void set_capacity(i64 pool, i64 bytes) { capacity_[static_cast<std::size_t>(pool)] = bytes; }
    i64 used(i64 pool) const { return used_[static_cast<std::size_t>(pool)].bytes(); }
    bool room(i64 pool, i64 bytes) const { return bytes <= capacity(pool) - used(pool); }
    // Whether there is room, once the evictor has made what it can.
    bool room_for(i64 t, i64 pool, i64 bytes) {
        if (!room(pool, bytes) && evictor_) evictor_->make_room(t, pool, bytes);
        return room(pool, bytes);
    }
    void set_evictor(Evictor* evictor) { evictor_ = evictor; }
    i64 held(std::size_t account) const { return levels_[account].bytes(); }

    void change(i64 t, std::size_t account, i64 bytes) {
        const std::size_t row = accounts_[account];
        const auto pool = static_cast<std::size_t>(timeline_.accounts()[row].pool);
        levels_[account].change(t, bytes, [&](i64 b, i64 from, i64 to) { timeline_.hold(row, b, from, to); });
        used_[pool].change(t, bytes, [&](i64 b, i64 from, i64 to) { timeline_.raise(pool, b, from, to); });
    }
    void finish(i64 t) {
        for (std::size_t a = 0; a < levels_.size(); ++a) change(t, a, 0);
    }

  private:
    Timeline& timeline_;
    std::vector<Level> used_, levels_;
    std::vector<i64> capacity_;
    std::vector<std::size_t> accounts_;
    Evictor* evictor_ = nullptr;
};

}  // namespace dcsim
