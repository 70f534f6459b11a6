// Checkpoints: at home in NAND, brought through DRAM to the replicas that start.
#pragma once

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "channels.hpp"
#include "store.hpp"

namespace dcsim {

class Weights {
  public:
    Weights(const Tables& tables, Pools& pools, Channels& channels) : tables_(tables), pools_(pools), channels_(channels) {
        std::map<std::pair<i64, i64>, std::size_t> seen;
        for (const ReplicaRow& r : tables.replicas) {
            const auto [it, added] = seen.try_emplace({r.service, r.dram}, sets_.size());
            if (added) sets_.push_back({pools.add_account({r.dram, kWeights, r.service, -1}), State::kAbsent, 0, {}});
            set_of_.push_back(it->second);
        }
        std::map<std::pair<i64, i64>, std::size_t> homes;
        for (const ReplicaRow& r : tables.replicas)
            if (!homes.count({r.service, r.home})) lay_down(homes, r.service, r.home, service(r.service).checkpoint);
        const std::vector<bool> bring = tables.services_that_bring();
        for (const ReplicaRow& r : tables.replicas) {
            const i64 bytes = service(r.service).library;
            if (bring[static_cast<std::size_t>(r.service)] && libraries_.try_emplace({r.service, r.library}, bytes).second)
                lay_down(homes, r.service, r.library, bytes);
        }
    }

    // A cold start: loads, or waits for a load, or goes past DRAM. True if it brings
    // weights into HBM now. `epoch`: of the replica, handed back with the transfer's end.
    bool start(i64 t, std::size_t replica, i64 epoch) {
        const ReplicaRow& r = tables_.replicas[replica];
        Set& set = sets_[set_of_[replica]];
        const i64 bytes = service(r.service).checkpoint;
        if (set.state == State::kResident) {
            onboard(t, replica, epoch);
            return true;
        }
        if (set.state == State::kLoading) {
            set.waiting.push_back(replica);
            return false;
        }
        if (!pools_.room_for(t, r.dram, bytes)) {
            channels_.start(t, bytes, {Bound::kDirect, replica, epoch}, r.load, r.onboard);
            return true;
        }
        pools_.change(t, set.account, bytes);
        set.state = State::kLoading;
        set.waiting.push_back(replica);
        channels_.start(t, bytes, {Bound::kSet, replica, epoch}, r.load);
        return false;
    }

    // The set of `replica` is in DRAM now; the replicas that waited for it.
    std::vector<std::size_t> loaded(i64 t, std::size_t replica) {
        Set& set = sets_[set_of_[replica]];
        set.state = State::kResident;
        std::vector<std::size_t> waiting;
        waiting.swap(set.waiting);
        if (waiting.empty()) settle(t, replica);
        return waiting;
    }
    void onboard(i64 t, std::size_t replica, i64 epoch) {
        const ReplicaRow& r = tables_.replicas[replica];
        ++sets_[set_of_[replica]].onboarding;
        channels_.start(t, service(r.service).weights, {Bound::kOnboard, replica, epoch}, r.onboard);
    }
    void onboarded(i64 t, std::size_t replica) {
        --sets_[set_of_[replica]].onboarding;
        settle(t, replica);
    }

    void warm(i64 t, std::size_t replica) {
        const ReplicaRow& r = tables_.replicas[replica];
        Set& set = sets_[set_of_[replica]];
        const Service& s = service(r.service);
        if (!s.keep || set.state != State::kAbsent || !pools_.room(r.dram, s.checkpoint)) return;
        pools_.change(t, set.account, s.checkpoint);
        set.state = State::kResident;
    }

    void give_up(std::size_t replica) {
        auto& waiting = sets_[set_of_[replica]].waiting;
        waiting.erase(std::remove(waiting.begin(), waiting.end(), replica), waiting.end());
    }

    // Bytes of weights, and of libraries, in a DRAM or NAND pool.
    i64 held(i64 pool) const {
        i64 total = 0;
        for (const auto& [where, bytes] : libraries_)
            if (where.second == pool) total += bytes;
        std::map<std::pair<i64, i64>, bool> homes;
        for (const ReplicaRow& r : tables_.replicas)
            if (r.home == pool && homes.try_emplace({r.service, r.home}, true).second)
                total += service(r.service).checkpoint;
        std::vector<bool> seen(sets_.size(), false);
        for (std::size_t i = 0; i < tables_.replicas.size(); ++i)
            if (tables_.replicas[i].dram == pool && !seen[set_of_[i]]) {
                seen[set_of_[i]] = true;
                total += pools_.held(sets_[set_of_[i]].account);
            }
        return total;
    }

  private:
    enum class State : char { kAbsent, kLoading, kResident };
    struct Set {
        std::size_t account;
        State state;
        i64 onboarding;
        std::vector<std::size_t> waiting;
    };

    const Service& service(i64 s) const { return tables_.services[static_cast<std::size_t>(s)]; }

    // Lies in NAND at all times, in the account of a service and a pool.
    void lay_down(std::map<std::pair<i64, i64>, std::size_t>& accounts, i64 s, i64 pool, i64 bytes) {
        if (!accounts.count({s, pool})) accounts[{s, pool}] = pools_.add_account({pool, kWeights, s, -1});
        pools_.change(0, accounts[{s, pool}], bytes);
    }

    void settle(i64 t, std::size_t replica) {
        Set& set = sets_[set_of_[replica]];
        const Service& s = service(tables_.replicas[replica].service);
        if (s.keep || set.state != State::kResident || set.onboarding > 0) return;
        pools_.change(t, set.account, -s.checkpoint);
        set.state = State::kAbsent;
    }

    const Tables& tables_;
    Pools& pools_;
    Channels& channels_;
    std::vector<Set> sets_;
    std::vector<std::size_t> set_of_;
    std::map<std::pair<i64, i64>, i64> libraries_;  // bytes by service and pool
};

}  // namespace dcsim
