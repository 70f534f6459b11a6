// The prefix forest in DRAM and NAND: what is loaded instead of computed, and what turns leave behind.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "objects.hpp"

namespace dcsim {

class Content : public Evictor {
  public:
    // Tokens of the longest prefix, by where they were found; how many transfers bring it.
    struct Hit { i64 dram = 0, nand = 0, transfers = 0; };
    // What a move that has ended was for; loading -1: a write.
    struct Ended { std::size_t replica; i64 loading; };

    Content(const Tables& tables, Timeline& timeline, Pools& pools, Channels& channels, const Objects& objects)
        : tables_(tables), timeline_(timeline), pools_(pools), channels_(channels), objects_(objects),
          first_(tables.nodes.size(), kNone), held_(tables.pools.size(), 0), lists_of_(tables.pools.size()) {
        if (tables.nodes.empty()) return;
        for (std::size_t s = 0; s < tables.services.size(); ++s) add_lists(s);
        dues_ = WinnerTree<Due>(lists_.size(), kNoDue);
    }

    const Due& next_due() const { return dues_.top_key(); }
    void expire(i64 t) { leave(t, free_to_go(lists_[dues_.top()]), kExpired); }

    // Evicts until `bytes` fit or nothing can go; nothing if they could not fit anyway.
    void make_room(i64 t, i64 pool, i64 bytes) override {
        const auto p = static_cast<std::size_t>(pool);
        if (held_[p] == 0 || bytes > pools_.capacity(pool) - pools_.used(pool) + held_[p]) return;
        while (!pools_.room(pool, bytes)) {
            const std::size_t victim = free_to_go(pool);
            if (victim == kNone) return;
            leave(t, victim, kEvicted);
        }
    }

    // A smaller capacity: nodes are lost, first those that are resident, then (`all`) any.
    void shrink(i64 t, i64 pool, bool all) {
        while (pools_.used(pool) > pools_.capacity(pool)) {
            const std::size_t victim = free_to_go(pool, all);
            if (victim == kNone) return;
            leave(t, victim, kLost);
        }
    }

    // The longest prefix of `reads` on its way to `replica`, if it is worth loading.
    Hit load(i64 t, i64 reads, std::size_t replica, i64 loading, i64 epoch) {
        const ReplicaRow& r = tables_.replicas[replica];
        const Service& s = tables_.services[static_cast<std::size_t>(r.service)];
        Hit hit;
        walk(reads);
        std::size_t in_dram = 0, found = 0;
        for (; found < path_.size(); ++found) {
            if (resident(r.dram, path_[found])) {
                hit.dram += node(path_[found]).tokens;
                ++in_dram;
            } else if (resident(r.store, path_[found])) {
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
                if (find(r.dram, path_[i]) != kNone) continue;
                if (!take(t, r.dram, path_[i], taken)) break;
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
        land(t, moving.taken);
        if (moving.leaves >= 0) {
            walk(moving.leaves);
            write_through(t, moving.replica);
        }
        return {moving.replica, moving.loading};
    }

  private:
    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
    // A node in a pool.
    struct Entry {
        i64 pool, node;
        std::size_t account, list;
        i64 use = 0, time = 0;
        i64 children = 0;  // in the same pool
        bool resident = false;
        std::size_t before = kNone, after = kNone;  // in its list, by use
        std::size_t other = kNone;                  // the same node in another pool
        i64 life = 0;                               // tells those that had this slot apart
    };
    struct Taken { std::size_t entry; i64 life; };
    struct Moving {
        std::size_t replica;
        i64 loading, leaves;
        std::vector<Taken> taken;
    };
    // The nodes of a service in a pool, the first used in front.
    struct List {
        i64 pool, stay;
        std::size_t front = kNone, back = kNone;
    };

    void add_lists(std::size_t service) {
        const Service& s = tables_.services[service];
        for (i64 r = s.replica; r < s.replica + s.replicas; ++r) {
            const ReplicaRow& row = tables_.replicas[static_cast<std::size_t>(r)];
            for (const i64 pool : {row.dram, row.store}) {
                if (list_of(static_cast<i64>(service), pool) != kNone) continue;
                const bool dram = tables_.pools[static_cast<std::size_t>(pool)].tier == kDram;
                lists_of_[static_cast<std::size_t>(pool)].push_back({static_cast<i64>(service), lists_.size()});
                lists_.push_back({pool, dram ? s.cache_dram : s.cache_nand});
            }
        }
    }
    std::size_t list_of(i64 service, i64 pool) const {
        for (const auto& [owner, list] : lists_of_[static_cast<std::size_t>(pool)])
            if (owner == service) return list;
        return kNone;
    }
    const Node& node(i64 n) const { return tables_.nodes[static_cast<std::size_t>(n)]; }

    // The path of a node, root first, into path_.
    void walk(i64 n) {
        path_.clear();
        for (; n >= 0; n = node(n).parent) path_.push_back(n);
        std::reverse(path_.begin(), path_.end());
    }

    std::size_t find(i64 pool, i64 n) const {
        std::size_t e = first_[static_cast<std::size_t>(n)];
        while (e != kNone && entries_[e].pool != pool) e = entries_[e].other;
        return e;
    }
    bool resident(i64 pool, i64 n) const {
        const std::size_t e = find(pool, n);
        return e != kNone && entries_[e].resident;
    }

    // path_ is used now: in each pool the deepest gets the lowest number.
    void touch(i64 t, const ReplicaRow& r) {
        for (const i64 pool : {r.dram, r.store}) {
            std::size_t list = kNone;
            for (auto n = path_.rbegin(); n != path_.rend(); ++n) {
                const std::size_t e = find(pool, *n);
                if (e == kNone) continue;
                unlink(e);
                entries_[e].use = ++uses_;
                entries_[e].time = t;
                link(e);
                list = entries_[e].list;
            }
            if (list != kNone) refresh(t, list);
        }
    }

    bool take(i64 t, i64 pool, i64 n, std::vector<Taken>& taken) {
        const Node& row = node(n);
        const auto parent = [&] { return row.parent < 0 ? kNone : find(pool, row.parent); };
        if (row.parent >= 0 && parent() == kNone) return false;
        if (!pools_.room_for(t, pool, row.bytes)) return false;
        const std::size_t above = parent();  // it may have made room itself
        if (row.parent >= 0 && above == kNone) return false;
        const std::size_t e = create(pool, n);
        if (above != kNone) ++entries_[above].children;
        link(e);
        refresh(t, entries_[e].list);  // the parent may have been the next to go
        held_[static_cast<std::size_t>(pool)] += row.bytes;
        pools_.change(t, entries_[e].account, row.bytes);
        flow(t, e, kTaken);
        taken.push_back({e, entries_[e].life});
        return true;
    }
    std::size_t create(i64 pool, i64 n) {
        std::size_t e = entries_.size();
        if (free_.empty()) {
            entries_.emplace_back();
        } else {
            e = free_.back();
            free_.pop_back();
        }
        const Node& row = node(n);
        const i64 service = tables_.classes[static_cast<std::size_t>(row.klass)].service;
        Entry entry;
        entry.pool = pool;
        entry.node = n;
        entry.account = objects_.account(row.klass, kCache, pool);
        entry.list = list_of(service, pool);
        entry.use = uses_;
        entry.other = first_[static_cast<std::size_t>(n)];
        entry.life = entries_[e].life;
        entries_[e] = entry;
        first_[static_cast<std::size_t>(n)] = e;
        return e;
    }
    void leave(i64 t, std::size_t e, Cause cause) {
        Entry& entry = entries_[e];
        const Node& row = node(entry.node);
        flow(t, e, cause);
        pools_.change(t, entry.account, -row.bytes);
        held_[static_cast<std::size_t>(entry.pool)] -= row.bytes;
        if (row.parent >= 0) --entries_[find(entry.pool, row.parent)].children;
        unlink(e);
        std::size_t* at = &first_[static_cast<std::size_t>(entry.node)];
        while (*at != e) at = &entries_[*at].other;
        *at = entry.other;
        ++entry.life;
        free_.push_back(e);
        refresh(t, entry.list);
    }
    void land(i64 t, const std::vector<Taken>& taken) {
        for (const Taken& each : taken) {
            Entry& entry = entries_[each.entry];
            if (entry.life != each.life) continue;  // lost on its way
            entry.resident = true;
            refresh(t, entry.list);
        }
    }

    // Takes what the pool lacks of path_, as far as there is room; what finds none is dropped.
    // With a source only what is resident there, and not past the first that is not.
    std::vector<Taken> fill(i64 t, i64 pool, i64 source) {
        std::vector<Taken> taken;
        for (std::size_t i = 0; i < path_.size(); ++i) {
            if (find(pool, path_[i]) != kNone) continue;
            if (source >= 0 && !resident(source, path_[i])) break;
            if (take(t, pool, path_[i], taken)) continue;
            for (; i < path_.size(); ++i)
                if (find(pool, path_[i]) == kNone) flow(t, path_[i], pool, kDropped);
        }
        return taken;
    }
    void write_through(i64 t, std::size_t replica) {
        const ReplicaRow& r = tables_.replicas[replica];
        if (tables_.services[static_cast<std::size_t>(r.service)].cache_nand == 0) return;
        std::vector<Taken> taken = fill(t, r.store, r.dram);
        for (const Taken& each : taken) {
            Entry& entry = entries_[each.entry];
            const Entry& copy = entries_[find(r.dram, entry.node)];
            unlink(each.entry);
            entry.use = copy.use;
            entry.time = copy.time;
            link(each.entry);
        }
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
            flow(t, path_[i], pool, kRead);
            bytes += node(path_[i]).bytes;
        }
        return bytes;
    }
    i64 bytes_of(const std::vector<Taken>& taken) const {
        i64 bytes = 0;
        for (const Taken& each : taken) bytes += node(entries_[each.entry].node).bytes;
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

    void flow(i64 t, std::size_t e, Cause cause) {
        timeline_.flow(pools_.timeline_account(entries_[e].account), cause, t, node(entries_[e].node).bytes);
    }
    void flow(i64 t, i64 n, i64 pool, Cause cause) {
        timeline_.flow(pools_.timeline_account(objects_.account(node(n).klass, kCache, pool)), cause, t, node(n).bytes);
    }

    // ---- lists by use

    // Nearly always at the back: only what is written through brings an older use along.
    void link(std::size_t e) {
        List& list = lists_[entries_[e].list];
        std::size_t before = list.back;
        while (before != kNone && entries_[before].use > entries_[e].use) before = entries_[before].before;
        const std::size_t after = before == kNone ? list.front : entries_[before].after;
        entries_[e].before = before;
        entries_[e].after = after;
        (before == kNone ? list.front : entries_[before].after) = e;
        (after == kNone ? list.back : entries_[after].before) = e;
    }
    void unlink(std::size_t e) {
        List& list = lists_[entries_[e].list];
        const auto [before, after] = std::pair{entries_[e].before, entries_[e].after};
        (before == kNone ? list.front : entries_[before].after) = after;
        (after == kNone ? list.back : entries_[after].before) = before;
    }
    // The first used that has no child in its pool. Descendants were used before it, so whoever has
    // children here waits for some that are in flight.
    std::size_t free_to_go(const List& list, bool in_flight_too = false) const {
        std::size_t e = list.front;
        while (e != kNone && (entries_[e].children > 0 || !(entries_[e].resident || in_flight_too))) e = entries_[e].after;
        return e;
    }
    std::size_t free_to_go(i64 pool, bool in_flight_too = false) const {
        std::size_t best = kNone;
        for (const auto& [service, list] : lists_of_[static_cast<std::size_t>(pool)]) {
            const std::size_t e = free_to_go(lists_[list], in_flight_too);
            if (e != kNone && (best == kNone || entries_[e].use < entries_[best].use)) best = e;
        }
        return best;
    }
    void refresh(i64 t, std::size_t list) {
        const std::size_t e = free_to_go(lists_[list]);
        if (e == kNone) return dues_.set(list, kNoDue);
        const Entry& entry = entries_[e];
        const i64 stay = lists_[list].stay;
        const i64 due = entry.time > kNever - stay ? kNever : entry.time + stay;
        dues_.set(list, {std::max(due, t), entry.use * static_cast<i64>(held_.size()) + entry.pool});
    }

    const Tables& tables_;
    Timeline& timeline_;
    Pools& pools_;
    Channels& channels_;
    const Objects& objects_;
    std::vector<std::size_t> first_;  // entry of each node in some pool
    std::vector<Entry> entries_;
    std::vector<std::size_t> free_;
    std::vector<i64> held_;  // bytes of nodes, by pool
    std::vector<List> lists_;
    std::vector<std::vector<std::pair<i64, std::size_t>>> lists_of_;  // by pool: (service, list)
    WinnerTree<Due> dues_{1, kNoDue};
    std::vector<Moving> moves_;
    std::vector<std::size_t> free_moves_;
    std::vector<i64> path_;
    i64 uses_ = 0;
};

}  // namespace dcsim
