// The prefix forest in DRAM and NAND: what is loaded instead of computed, and what turns leave behind.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "channels.hpp"
#include "residence.hpp"

namespace dcsim {

class Content {
  public:
    // Tokens of the longest prefix, by where they were found; how many transfers bring it.
    struct Hit { i64 dram = 0, nand = 0, transfers = 0; };
    // What a move that has ended was for; loading -1: a write.
    struct Ended { std::size_t replica; i64 loading; };

    Content(const Tables& tables, Channels& channels, Residence& lies) : tables_(tables), channels_(channels), lies_(lies) {}

    // The longest prefix of `reads` on its way to `replica`, if it is worth loading.
    Hit load(i64 t, i64 reads, std::size_t replica, i64 loading, i64 epoch) {
        const ReplicaRow& r = tables_.replicas[replica];
        const Service& s = tables_.services[static_cast<std::size_t>(r.service)];
        Hit hit;
        walk(reads);
        std::size_t in_dram = 0, found = 0;
        for (; found < path_.size(); ++found) {
            if (lies_.resident(r.dram, path_[found])) {
                hit.dram += node(path_[found]).tokens;
                ++in_dram;
            } else if (lies_.resident(r.store, path_[found])) {
                hit.nand += node(path_[found]).tokens;
            } else {
                break;
            }
        }
        if (hit.dram + hit.nand < std::max<i64>(1, s.cache_least)) return Hit{};
        path_.resize(found);
        touch(t, r);
        hit.transfers = (in_dram > 0 ? 1 : 0) + (in_dram < found ? 1 : 0);
        if (in_dram > 0) begin(t, {replica, loading, -1, {}}, epoch, read(t, r.dram, 0, in_dram), r.onboard);
        if (in_dram == found) return hit;
        const i64 bytes = read(t, r.store, in_dram, found);
        std::vector<Taken> taken;
        if (s.cache_dram > 0)
            for (std::size_t i = in_dram; i < found; ++i) {
                if (!lies_.absent(r.dram, path_[i])) continue;
                if (!lies_.take(t, r.dram, path_[i], taken)) break;
            }
        if (!taken.empty()) touch(t, r);
        begin(t, {replica, loading, -1, std::move(taken)}, epoch, bytes, r.fetch, r.onboard);
        return hit;
    }

    // A request has completed: its path is written where it is lacking.
    void left(i64 t, i64 leaves, std::size_t replica) {
        const ReplicaRow& r = tables_.replicas[replica];
        const Service& s = tables_.services[static_cast<std::size_t>(r.service)];
        walk(leaves);
        touch(t, r);
        if (s.cache_dram > 0) {
            std::vector<Taken> taken = fill(t, r.dram, -1);
            touch(t, r);
            if (taken.empty()) return write_through(t, replica);
            const i64 bytes = bytes_of(taken);
            begin(t, {replica, -1, leaves, std::move(taken)}, 0, bytes, r.offload);
        } else if (s.cache_nand > 0) {
            std::vector<Taken> taken = fill(t, r.store, -1);
            touch(t, r);
            write(t, replica, std::move(taken), r.offload, r.spill);
        }
    }

    // The transfer of a move has come to its end.
    Ended arrive(i64 t, std::size_t id) {
        const Moving moving = std::move(moves_[id]);
        free_moves_.push_back(id);
        lies_.land(t, moving.taken);
        if (moving.leaves >= 0) {
            walk(moving.leaves);
            write_through(t, moving.replica);
        }
        return {moving.replica, moving.loading};
    }

  private:
    using Taken = Residence::Taken;
    struct Moving {
        std::size_t replica;
        i64 loading, leaves;
        std::vector<Taken> taken;
    };

    // The path of a node, root first, into path_.
    void walk(i64 n) {
        path_.clear();
        for (; n >= 0; n = node(n).parent) path_.push_back(n);
        std::reverse(path_.begin(), path_.end());
    }

    const Node& node(i64 n) const { return lies_.node(n); }
    void touch(i64 t, const ReplicaRow& r) {
        for (const i64 pool : {r.dram, r.store}) lies_.touch(t, pool, path_);
    }

    // Takes what the pool lacks of path_, as far as there is room; what finds none is dropped.
    // With a source only what is resident there, and not past the first that is not.
    std::vector<Taken> fill(i64 t, i64 pool, i64 source) {
        std::vector<Taken> taken;
        for (std::size_t i = 0; i < path_.size(); ++i) {
            if (!lies_.absent(pool, path_[i])) continue;
            if (source >= 0 && !lies_.resident(source, path_[i])) break;
            if (lies_.take(t, pool, path_[i], taken)) continue;
            for (; i < path_.size(); ++i)
                if (lies_.absent(pool, path_[i])) lies_.flow(t, path_[i], pool, kDropped);
        }
        return taken;
    }
    void write_through(i64 t, std::size_t replica) {
        const ReplicaRow& r = tables_.replicas[replica];
        if (tables_.services[static_cast<std::size_t>(r.service)].cache_nand == 0) return;
        std::vector<Taken> taken = fill(t, r.store, r.dram);
        for (const Taken& each : taken) lies_.use_as(each, r.dram);
        write(t, replica, std::move(taken), r.spill);
    }
    void write(i64 t, std::size_t replica, std::vector<Taken> taken, i64 path, i64 then = -1) {
        if (taken.empty()) return;
        const i64 bytes = bytes_of(taken);
        begin(t, {replica, -1, -1, std::move(taken)}, 0, bytes, path, then);
    }

    // Bytes of path_[from..to), counted as read in the pool.
    i64 read(i64 t, i64 pool, std::size_t from, std::size_t to) {
        i64 bytes = 0;
        for (std::size_t i = from; i < to; ++i) {
            lies_.flow(t, path_[i], pool, kRead);
            bytes += node(path_[i]).bytes;
        }
        return bytes;
    }
    i64 bytes_of(const std::vector<Taken>& taken) const {
        i64 bytes = 0;
        for (const Taken& each : taken) bytes += lies_.node(each).bytes;
        return bytes;
    }
    void begin(i64 t, Moving moving, i64 epoch, i64 bytes, i64 path, i64 then = -1) {
        std::size_t id = moves_.size();
        if (free_moves_.empty()) {
            moves_.push_back(std::move(moving));
        } else {
            id = free_moves_.back();
            free_moves_.pop_back();
            moves_[id] = std::move(moving);
        }
        channels_.start(t, bytes, {Bound::kContent, id, epoch}, path, then);
    }

    const Tables& tables_;
    Channels& channels_;
    Residence& lies_;
    std::vector<Moving> moves_;
    std::vector<std::size_t> free_moves_;
    std::vector<i64> path_;
};

}  // namespace dcsim
