// DRAM and NAND: how much lies in them.
#pragma once

#include <array>
#include <utility>
#include <vector>

#include "tier_top.hpp"

namespace dcsim {

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
    // `apart`: what tiers hold together is added up by another.
    Pools(const Tables& tables, Timeline& timeline, bool lifted, bool apart)
        : timeline_(timeline), apart_(apart), used_(tables.pools.size()) {
        for (const Pool& p : tables.pools) {
            capacity_.push_back(lifted && p.tier != kHbm ? kNever : p.capacity);
            tier_.push_back(static_cast<Tier>(p.tier));
            ++pools_of_[tier_.back()];
        }
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
        const Tier tier = tier_[pool];
        if (!summed(tier)) return;
        if (apart_)
            changes_.push_back({t, tier, bytes});
        else
            together_[tier].change(t, bytes, [&](i64 b, i64 from, i64 to) { timeline_.raise(tier, b, from, to); });
    }
    std::vector<LevelChange>& changes() { return changes_; }
    void finish(i64 t) {
        for (std::size_t a = 0; a < levels_.size(); ++a) change(t, a, 0);
        for (std::size_t pool = 0; pool < tier_.size(); ++pool)
            if (tier_[pool] != kHbm && !summed(tier_[pool])) timeline_.tier_is(tier_[pool], pool);
    }

  private:
    // HBM is tier_top.hpp's; of a tier of one pool there is nothing to add up.
    bool summed(Tier tier) const { return tier != kHbm && pools_of_[tier] > 1; }

    Timeline& timeline_;
    bool apart_;
    std::vector<LevelChange> changes_;
    std::vector<Level> used_, levels_;
    std::array<Level, kTiers> together_;  // all pools of a tier below HBM
    std::vector<Tier> tier_;
    std::array<std::size_t, kTiers> pools_of_{};
    std::vector<i64> capacity_;
    std::vector<std::size_t> accounts_;
    Evictor* evictor_ = nullptr;
};

}  // namespace dcsim
