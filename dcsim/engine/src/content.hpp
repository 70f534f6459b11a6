// The prefix forest in DRAM and NAND: what is loaded instead of computed, and what turns leave behind.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "channels.hpp"
#include "residence.hpp"
#include "rows.hpp"

namespace dcsim {

class Content : public WriteBack {
  public:
    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
    // Tokens of the longest prefix, by where they were found, and before the first found in NAND; the
    // moves that bring it, and how long the one from NAND is waited for.
    struct Hit {
        i64 dram = 0, nand = 0, head = 0, patience = kNever;
        std::size_t from_dram = kNone, from_nand = kNone;
        bool any() const { return from_dram != kNone || from_nand != kNone; }
    };
    // What a move that has ended was for; loading -1: nobody waits for it.
    struct Ended { std::size_t replica; i64 loading; std::size_t move; i64 brought; };

    Content(const Tables& tables, Channels& channels, Residence& lies) : tables_(tables), channels_(channels), lies_(lies) {
        lies_.set_write_back(this);
    }

    // The longest prefix of `reads` on its way to `replica`, if it is worth loading, but for its first
    // nodes: those are in HBM.
    Hit load(i64 t, i64 reads, const SegmentRow& prefill, std::size_t replica, i64 loading, i64 epoch, std::size_t above) {
        const ReplicaRow& r = tables_.replicas[replica];
        const Service& s = tables_.services[static_cast<std::size_t>(r.service)];
        walk(reads);
        const Found found = worth(look_up(r, above), above, prefill, r);
        Hit hit{tokens_of(found.dram), tokens_of(found.nand), tokens_of(head(found))};
        if (hit.dram + hit.nand < std::max<i64>(1, s.cache_least)) {
            path_.resize(above);
            if (above > 0) touch(t, r);
            return Hit{};
        }
        path_.resize(above + found.dram.size() + found.nand.size());
        touch(t, r);
        if (!found.dram.empty()) {
            hit.from_dram = begin(t, {replica, loading, -1, false, -1, {}}, epoch, read(t, r.dram, found.dram), r.onboard);
        }
        if (found.nand.empty()) return hit;
        const i64 bytes = read(t, r.store, found.nand);
        std::vector<Taken> taken;
        if (s.cache_dram > 0)
            for (const i64 n : found.nand) {
                if (!lies_.absent(r.dram, n)) continue;
                if (!lies_.take(t, r.dram, n, replica, taken)) break;
            }
        if (!taken.empty()) touch(t, r);
        hit.from_nand = begin(t, {replica, loading, -1, true, -1, std::move(taken)}, epoch, bytes, r.fetch, r.onboard);
        hit.patience = patience(policy(r), hit.nand);
        return hit;
    }

    // A brought node starts on its way to HBM; from where.
    Source bring(i64 t, i64 n, std::size_t replica, i64 epoch) {
        const ReplicaRow& r = tables_.replicas[replica];
        const bool in_dram = lies_.resident(r.dram, n), in_nand = !in_dram && lies_.resident(r.store, n);
        if (in_dram || in_nand) lies_.flow(t, n, in_dram ? r.dram : r.store, kRead);
        std::vector<Taken> taken;
        if (!in_dram && tables_.services[static_cast<std::size_t>(r.service)].cache_dram > 0 && lies_.absent(r.dram, n) &&
            (in_nand || lies_.admitted(r.dram, n, 1)))
            lies_.take(t, r.dram, n, replica, taken);
        begin(t, {replica, -1, -1, true, n, std::move(taken)}, epoch, node(n).bytes, in_dram ? r.onboard : in_nand ? r.fetch : r.bring,
              in_nand ? r.onboard : -1);
        return in_dram ? kFromDram : in_nand ? kFromNand : kFromLibrary;
    }

    // Tokens of the longest prefix of `reads` near a replica but for its first nodes.
    Hit hit(i64 reads, std::size_t replica, std::size_t above) {
        walk(reads);
        const Found found = look_up(tables_.replicas[replica], above);
        return {tokens_of(found.dram), tokens_of(found.nand), tokens_of(head(found))};
    }

    // A request has completed: its path is written where it is lacking.
    void left(i64 t, i64 leaves, std::size_t replica) {
        const ReplicaRow& r = tables_.replicas[replica];
        const Service& s = tables_.services[static_cast<std::size_t>(r.service)];
        walk(leaves);
        lies_.count(path_, {r.dram, r.store});
        touch(t, r);
        if (s.cache_dram > 0) {
            std::vector<Taken> taken = fill(t, r.dram, -1, path_, replica);
            touch(t, r);
            if (taken.empty()) return write_through(t, leaves, replica);
            const i64 bytes = bytes_of(taken);
            begin(t, {replica, -1, leaves, true, -1, std::move(taken)}, 0, bytes, r.offload);
        } else if (s.cache_nand > 0) {
            std::vector<Taken> taken = fill(t, r.store, -1, path_, replica);
            touch(t, r);
            write(t, replica, std::move(taken), r.offload, r.spill);
        }
    }

    // The transfer of a move has come to its end.
    Ended arrive(i64 t, std::size_t id) {
        const Moving moving = std::move(moves_[id]);
        free_moves_.push_back(id);
        lies_.land(t, moving.taken);
        const ReplicaRow& r = tables_.replicas[moving.replica];
        if (moving.brings && policy(r).exclusive == 1) lies_.leave_other(t, moving.taken, r.store);
        if (moving.leaves >= 0) write_through(t, moving.leaves, moving.replica);
        return {moving.replica, moving.loading, id, moving.node};
    }
    // Nobody waits for the move any more.
    void let_go(std::size_t id) { moves_[id].loading = -1; }

    // The path of a node (or it alone, of exclusive tiers) is written to NAND, as it leaves DRAM.
    bool write_back(i64 t, i64 n, std::size_t replica) override {
        const ReplicaRow& r = tables_.replicas[replica];
        const bool alone = policy(r).exclusive == 1;
        back_.clear();
        for (; n >= 0; n = alone ? -1 : node(n).parent) back_.push_back(n);
        std::reverse(back_.begin(), back_.end());
        return copy(t, back_, replica, alone) == back_.back();
    }

  private:
    using Taken = Residence::Taken;
    struct Moving {
        std::size_t replica;
        i64 loading, leaves;
        bool brings;  // nodes to DRAM
        i64 node;     // that it brings to HBM; -1: none
        std::vector<Taken> taken;
    };

    // The nodes of path_ from one on that lie somewhere near, by where they were found.
    struct Found { std::vector<i64> dram, nand; };
    Found look_up(const ReplicaRow& r, std::size_t from) const {
        Found found;
        for (std::size_t i = from; i < path_.size(); ++i) {
            const i64 n = path_[i];
            if (lies_.resident(r.dram, n)) found.dram.push_back(n);
            else if (lies_.resident(r.store, n)) found.nand.push_back(n);
            else break;
        }
        return found;
    }
    // What of it comes sooner than it is computed, where only that is to be loaded.
    Found worth(Found found, std::size_t above, const SegmentRow& prefill, const ReplicaRow& r) const {
        if (policy(r).faster == 0) return found;
        i64 there = 0;
        for (std::size_t i = 0; i < above; ++i) there += node(path_[i]).tokens;
        if (!found.nand.empty()) {
            const i64 before = tokens_of(head(found)), all = tokens_of(found.dram) + tokens_of(found.nand);
            const i64 bring = tables_.time_to_bring(bytes_of(found.nand), r.fetch, r.onboard);
            if (ticks_of(bring) >= to_compute(prefill, there + before, all - before)) found = {head(found), {}};
        }
        if (found.dram.empty()) return found;
        const i64 bring = tables_.time_to_bring(bytes_of(found.dram), r.onboard);
        const i64 all = tokens_of(found.dram) + tokens_of(found.nand);
        return ticks_of(bring) < to_compute(prefill, there, all) ? found : Found{};
    }
    // The nodes before the first that was found in NAND.
    static std::vector<i64> head(const Found& found) {
        if (found.nand.empty()) return found.dram;
        const auto end = std::lower_bound(found.dram.begin(), found.dram.end(), found.nand.front());
        return {found.dram.begin(), end};  // a parent is a lower row
    }
    static i64 patience(const Policy& p, i64 tokens) {
        const i128 ns = p.wait_base + static_cast<i128>(p.wait_ki) * tokens / 1024;
        return p.wait == 0 || ns > kNever ? kNever : static_cast<i64>(ns);
    }
    // Ticks of a prefill step of `n` tokens after `o`, but for its launch and the weights.
    static i128 to_compute(const SegmentRow& r, i64 o, i64 n) {
        const i128 pairs = static_cast<i128>(n) * o + static_cast<i128>(n) * (n + 1) / 2;
        return static_cast<i128>(r.dense + r.own) * n + std::max(r.pair * pairs, static_cast<i128>(r.ctx) * (o + n));
    }
    i64 bytes_of(const std::vector<i64>& nodes) const {
        i64 bytes = 0;
        for (const i64 n : nodes) bytes += node(n).bytes;
        return bytes;
    }
    i64 tokens_of(const std::vector<i64>& nodes) const {
        i64 tokens = 0;
        for (const i64 n : nodes) tokens += node(n).tokens;
        return tokens;
    }

    // The path of a node, root first, into path_.
    void walk(i64 n) {
        path_.clear();
        for (; n >= 0; n = node(n).parent) path_.push_back(n);
        std::reverse(path_.begin(), path_.end());
    }

    const Node& node(i64 n) const { return lies_.node(n); }
    const Policy& policy(const ReplicaRow& r) const { return tables_.policies[static_cast<std::size_t>(r.service)]; }
    void touch(i64 t, const ReplicaRow& r) {
        for (const i64 pool : {r.dram, r.store}) lies_.touch(t, pool, path_);
    }

    // Takes what the pool lacks of path_, as far as there is room; what finds none is dropped.
    // With a source only what is resident there, and not past the first that is not; what was not
    // left often enough stays out.
    std::vector<Taken> fill(i64 t, i64 pool, i64 source, const std::vector<i64>& path, std::size_t replica, bool alone = false) {
        std::vector<Taken> taken;
        for (std::size_t i = 0; i < path.size(); ++i) {
            if (!lies_.absent(pool, path[i])) continue;
            if (source >= 0 && !lies_.resident(source, path[i])) break;
            if (!lies_.admitted(pool, path[i])) break;
            if (lies_.take(t, pool, path[i], replica, taken, alone)) continue;
            for (; i < path.size(); ++i)
                if (lies_.absent(pool, path[i])) lies_.flow(t, path[i], pool, kDropped);
        }
        return taken;
    }
    void write_through(i64 t, i64 leaves, std::size_t replica) {
        if (policy(tables_.replicas[replica]).back == 1) return;
        walk(leaves);
        copy(t, path_, replica, false);
    }
    // Writes what NAND lacks of a path from DRAM; the last node that is taken there, or -1.
    i64 copy(i64 t, const std::vector<i64>& path, std::size_t replica, bool alone) {
        const ReplicaRow& r = tables_.replicas[replica];
        if (tables_.services[static_cast<std::size_t>(r.service)].cache_nand == 0) return -1;
        std::vector<Taken> taken = fill(t, r.store, r.dram, path, replica, alone);
        if (taken.empty()) return -1;
        for (const Taken& each : taken) lies_.use_as(each, r.dram);
        const i64 last = lies_.node_of(taken.back());
        write(t, replica, std::move(taken), r.spill);
        return last;
    }
    void write(i64 t, std::size_t replica, std::vector<Taken> taken, i64 path, i64 then = -1) {
        if (taken.empty()) return;
        const i64 bytes = bytes_of(taken);
        begin(t, {replica, -1, -1, false, -1, std::move(taken)}, 0, bytes, path, then);
    }

    // Bytes of the nodes, counted as read in the pool.
    i64 read(i64 t, i64 pool, const std::vector<i64>& nodes) {
        i64 bytes = 0;
        for (const i64 n : nodes) {
            lies_.flow(t, n, pool, kRead);
            bytes += node(n).bytes;
        }
        return bytes;
    }
    i64 bytes_of(const std::vector<Taken>& taken) const {
        i64 bytes = 0;
        for (const Taken& each : taken) bytes += lies_.node(each).bytes;
        return bytes;
    }
    std::size_t begin(i64 t, Moving moving, i64 epoch, i64 bytes, i64 path, i64 then = -1) {
        std::size_t id = moves_.size();
        if (free_moves_.empty()) {
            moves_.push_back(std::move(moving));
        } else {
            id = free_moves_.back();
            free_moves_.pop_back();
            moves_[id] = std::move(moving);
        }
        channels_.start(t, bytes, {Bound::kContent, id, epoch}, path, then);
        return id;
    }

    const Tables& tables_;
    Channels& channels_;
    Residence& lies_;
    std::vector<Moving> moves_;
    std::vector<std::size_t> free_moves_;
    std::vector<i64> path_, back_;  // of the request at hand, and of the node that leaves
};

}  // namespace dcsim
