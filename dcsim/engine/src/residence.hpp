// Which nodes of the prefix forest lie in which pool: last used when, due when, and which go first.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "objects.hpp"

namespace dcsim {

// Writes a node of DRAM back to NAND before it leaves; says whether it is on its way there.
class WriteBack {
  public:
    virtual bool write_back(i64 t, i64 node, std::size_t replica) = 0;

  protected:
    ~WriteBack() = default;
};

class Residence : public Evictor {
  public:
    // A node that was taken in a pool; `life` tells those that had its slot apart.
    struct Taken { std::size_t entry; i64 life; };

    Residence(const Tables& tables, Timeline& timeline, Pools& pools, const Objects& objects)
        : tables_(tables), timeline_(timeline), pools_(pools), objects_(objects),
          first_(tables.nodes.size(), kNone), frequency_(tables.nodes.size(), 0), held_(tables.pools.size(), 0), lists_of_(tables.pools.size()) {
        if (tables.nodes.empty()) return;
        for (std::size_t s = 0; s < tables.services.size(); ++s) add_lists(s);
        dues_ = WinnerTree<Due>(lists_.size(), kNoDue);
    }

    void set_write_back(WriteBack* back) { back_ = back; }

    const Node& node(i64 n) const { return tables_.nodes[static_cast<std::size_t>(n)]; }
    i64 node_of(const Taken& taken) const { return entries_[taken.entry].node; }
    const Node& node(const Taken& taken) const { return node(node_of(taken)); }
    bool absent(i64 pool, i64 n) const { return find(pool, n) == kNone; }
    bool resident(i64 pool, i64 n) const {
        const std::size_t e = find(pool, n);
        return e != kNone && entries_[e].resident;
    }

    const Due& next_due() const { return dues_.top_key(); }
    void expire(i64 t) { go(t, free_to_go(lists_[dues_.top()]), kExpired); }

    void make_room(i64 t, i64 pool, i64 bytes) override {
        make_room(t, pool, bytes, pools_.capacity(pool), pools_.capacity(pool));
    }
    // Where more than `high` would be in use, evicts until no more than `low` are or nothing can go;
    // nothing if `bytes` could not fit anyway.
    void make_room(i64 t, i64 pool, i64 bytes, i64 high, i64 low) {
        const auto p = static_cast<std::size_t>(pool);
        if (bytes <= high - pools_.used(pool) || held_[p] == 0) return;
        if (bytes > pools_.capacity(pool) - pools_.used(pool) + held_[p]) return;
        while (bytes > low - pools_.used(pool)) {
            const std::size_t victim = first_to_go(pool);
            if (victim == kNone) return;
            go(t, victim, kEvicted);
        }
    }

    // A smaller capacity: nodes are lost, first those that are resident, then (`all`) any.
    void shrink(i64 t, i64 pool, bool all) {
        while (pools_.used(pool) > pools_.capacity(pool)) {
            const std::size_t victim = all ? least_used(pool) : first_to_go(pool);
            if (victim == kNone) return;
            leave(t, victim, kLost);
        }
    }

    // A request has left the path, in these pools.
    void count(const std::vector<i64>& path, std::initializer_list<i64> pools) {
        for (const i64 n : path) {
            ++frequency_[static_cast<std::size_t>(n)];
            for (const i64 pool : pools) {
                const std::size_t e = find(pool, n);
                if (e == kNone) continue;
                unrank(e);
                ++entries_[e].mark.uses;
                rank(e);
            }
        }
    }
    // Whether the node was left often enough for the tier of the pool, with `soon` that will leave it.
    bool admitted(i64 pool, i64 n, i64 soon = 0) const {
        const Policy& p = policy(n);
        return frequency_[static_cast<std::size_t>(n)] + soon >= (is_dram(pool) ? p.admit_dram : p.admit_nand);
    }

    // The path is used now: the deepest gets the lowest number.
    void touch(i64 t, i64 pool, const std::vector<i64>& path) {
        std::size_t list = kNone;
        for (auto n = path.rbegin(); n != path.rend(); ++n) {
            const std::size_t e = find(pool, *n);
            if (e == kNone) continue;
            use(e, ++uses_, t);
            list = entries_[e].list;
        }
        if (list != kNone) refresh(t, list);
    }
    // A node that was just taken has the last use that its copy in another pool has.
    void use_as(const Taken& taken, i64 pool) {
        const Entry& copy = entries_[find(pool, entries_[taken.entry].node)];
        use(taken.entry, copy.mark.last, copy.time);
    }

    // Takes room for a node in flight, for a replica, if its parent is there (which does not go for
    // it) or it goes `alone`.
    bool take(i64 t, i64 pool, i64 n, std::size_t replica, std::vector<Taken>& taken, bool alone = false) {
        const Node& row = node(n);
        const std::size_t above = row.parent < 0 ? kNone : find(pool, row.parent);
        if (row.parent >= 0 && above == kNone && !alone) return false;
        if (above != kNone) add_child(above);
        const Policy& p = policy(n);
        const i64 high = is_dram(pool) ? p.high_dram : p.high_nand, low = is_dram(pool) ? p.low_dram : p.low_nand;
        make_room(t, pool, row.bytes, mark(pool, high, high), mark(pool, high, low));
        if (!pools_.room(pool, row.bytes)) {
            if (above == kNone) return false;
            drop_child(above);
            refresh(t, entries_[above].list);  // it may be the next to go again
            return false;
        }
        const std::size_t e = create(pool, n);
        entries_[e].replica = replica;
        link(e);
        refresh(t, entries_[e].list);  // the parent may have been the next to go
        held_[static_cast<std::size_t>(pool)] += row.bytes;
        pools_.change(t, entries_[e].account, row.bytes);
        flow(t, e, kTaken);
        taken.push_back({e, entries_[e].life});
        return true;
    }
    void land(i64 t, const std::vector<Taken>& taken) {
        for (const Taken& each : taken) {
            Entry& entry = entries_[each.entry];
            if (entry.life != each.life) continue;  // lost on its way
            entry.resident = true;
            rank(each.entry);
            refresh(t, entry.list);
        }
    }

    // Those of the nodes that lie here now leave the other pool, where they are resident there.
    void leave_other(i64 t, const std::vector<Taken>& taken, i64 pool) {
        for (auto each = taken.rbegin(); each != taken.rend(); ++each) {
            if (entries_[each->entry].life != each->life) continue;
            const std::size_t copy = find(pool, entries_[each->entry].node);
            if (copy != kNone && entries_[copy].resident) leave(t, copy, kMoved);
        }
    }

    // Bytes that pass a pool or are refused there.
    void flow(i64 t, i64 n, i64 pool, Cause cause) {
        timeline_.flow(pools_.timeline_account(account(n, pool)), cause, t, node(n).bytes);
    }

  private:
    static constexpr std::size_t kNone = static_cast<std::size_t>(-1), kCrowded = kNone - 1;
    static constexpr int kFew = 3;  // copies of a node that are walked
    // A node in a pool.
    struct Entry {
        i64 pool, node;
        std::size_t account, list, replica = 0;  // the replica for which it was taken
        Mark mark{};
        i64 time = 0;      // of the last use
        i64 children = 0;  // in the same pool
        bool resident = false;
        std::size_t before = kNone, after = kNone;  // in its list, by use
        std::size_t other = kNone;                  // the same node in another pool
        i64 life = 0;                               // tells those that had this slot apart
    };
    // The nodes of a service in a pool, the first used in front.
    struct List {
        i64 pool, stay, eviction;
        std::size_t front = kNone, back = kNone;
        std::set<std::pair<Key, std::size_t>> leaves;  // those free to go, unless `lru`
    };

    void add_lists(std::size_t service) {
        const Service& s = tables_.services[service];
        for (i64 r = s.replica; r < s.replica + s.replicas; ++r) {
            const ReplicaRow& row = tables_.replicas[static_cast<std::size_t>(r)];
            for (const i64 pool : {row.dram, row.store}) {
                if (list_of(static_cast<i64>(service), pool) != kNone) continue;
                const Policy& p = tables_.policies[service];
                const bool dram = is_dram(pool);
                lists_of_[static_cast<std::size_t>(pool)].push_back({static_cast<i64>(service), lists_.size()});
                lists_.push_back({pool, dram ? s.cache_dram : s.cache_nand, dram ? p.evict_dram : p.evict_nand, kNone, kNone, {}});
            }
        }
    }
    std::size_t list_of(i64 service, i64 pool) const {
        for (const auto& [owner, list] : lists_of_[static_cast<std::size_t>(pool)])
            if (owner == service) return list;
        return kNone;
    }
    bool is_dram(i64 pool) const { return tables_.pools[static_cast<std::size_t>(pool)].tier == kDram; }
    const Policy& policy(i64 n) const { return tables_.policies[static_cast<std::size_t>(service_of(n))]; }
    i64 service_of(i64 n) const { return tables_.classes[static_cast<std::size_t>(node(n).klass)].service; }

    std::size_t account(i64 n, i64 pool) const {
        return objects_.account(node(n).klass, tables_.is_brought(n) ? kAdapters : kCache, pool);
    }
    std::size_t find(i64 pool, i64 n) const {
        std::size_t e = first_[static_cast<std::size_t>(n)];
        if (e == kCrowded) {
            const auto found = crowded_.find(place(pool, n));
            return found == crowded_.end() ? kNone : found->second;
        }
        while (e != kNone && entries_[e].pool != pool) e = entries_[e].other;
        return e;
    }
    // Entries of a node are a chain while they are few, and then for ever in a table.
    void chain(std::size_t e) {
        Entry& entry = entries_[e];
        std::size_t& first = first_[static_cast<std::size_t>(entry.node)];
        if (first != kCrowded) {
            int copies = 0;
            for (std::size_t other = first; other != kNone; other = entries_[other].other) ++copies;
            if (copies < kFew) {
                entry.other = first;
                first = e;
                return;
            }
            for (std::size_t other = first; other != kNone; other = entries_[other].other)
                crowded_[place(entries_[other].pool, entry.node)] = other;
            first = kCrowded;
        }
        crowded_[place(entry.pool, entry.node)] = e;
    }
    void unchain(std::size_t e) {
        const Entry& entry = entries_[e];
        std::size_t* at = &first_[static_cast<std::size_t>(entry.node)];
        if (*at == kCrowded) {
            crowded_.erase(place(entry.pool, entry.node));
            return;
        }
        while (*at != e) at = &entries_[*at].other;
        *at = entry.other;
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
        Entry entry;
        entry.pool = pool;
        entry.node = n;
        entry.account = account(n, pool);
        entry.list = list_of(service_of(n), pool);
        entry.mark = {++takings_, 1, uses_};
        entry.life = entries_[e].life;
        entry.children = take_orphans(pool, n);
        if (row.parent >= 0 && find(pool, row.parent) == kNone) ++orphans_[place(pool, row.parent)];
        entries_[e] = entry;
        chain(e);
        return e;
    }
    // Evicted or expired: one in DRAM may be written back first.
    void go(i64 t, std::size_t e, Cause cause) {
        const i64 n = entries_[e].node;
        if (is_dram(entries_[e].pool) && policy(n).back == 1 && back_->write_back(t, n, entries_[e].replica)) cause = kMoved;
        leave(t, e, cause);
    }
    void leave(i64 t, std::size_t e, Cause cause) {
        Entry& entry = entries_[e];
        const Node& row = node(entry.node);
        flow(t, e, cause);
        pools_.change(t, entry.account, -row.bytes);
        held_[static_cast<std::size_t>(entry.pool)] -= row.bytes;
        unrank(e);
        unlink(e);
        drop_from_parent(entry.pool, row.parent);
        if (entry.children > 0) orphans_[place(entry.pool, entry.node)] = entry.children;
        unchain(e);
        ++entry.life;
        free_.push_back(e);
        refresh(t, entry.list);
    }
    // Bytes up to a watermark, where there are any.
    i64 mark(i64 pool, i64 high, i64 at) const {
        const i64 capacity = pools_.capacity(pool);
        if (high == 0 || capacity == kNever) return capacity;
        return static_cast<i64>(static_cast<i128>(capacity) * at / kWhole);
    }
    // Children of nodes that are not there themselves: of exclusive tiers alone.
    i64 place(i64 pool, i64 n) const { return n * static_cast<i64>(held_.size()) + pool; }
    i64 take_orphans(i64 pool, i64 n) {
        if (orphans_.empty()) return 0;
        const auto found = orphans_.find(place(pool, n));
        if (found == orphans_.end()) return 0;
        const i64 children = found->second;
        orphans_.erase(found);
        return children;
    }
    void drop_from_parent(i64 pool, i64 parent) {
        if (parent < 0) return;
        const std::size_t above = find(pool, parent);
        if (above != kNone) return drop_child(above);
        const auto found = orphans_.find(place(pool, parent));
        if (--found->second == 0) orphans_.erase(found);
    }
    void add_child(std::size_t e) {
        unrank(e);
        ++entries_[e].children;
    }
    void drop_child(std::size_t e) {
        --entries_[e].children;
        rank(e);
    }
    void flow(i64 t, std::size_t e, Cause cause) {
        timeline_.flow(pools_.timeline_account(entries_[e].account), cause, t, node(entries_[e].node).bytes);
    }

    void use(std::size_t e, i64 use, i64 t) {
        unrank(e);
        unlink(e);
        entries_[e].mark.last = use;
        entries_[e].time = t;
        link(e);
        rank(e);
    }
    // Nearly always at the back: only what is written through brings an older use along.
    void link(std::size_t e) {
        List& list = lists_[entries_[e].list];
        std::size_t before = list.back;
        while (before != kNone && entries_[before].mark.last > entries_[e].mark.last) before = entries_[before].before;
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
    // Of the heads of the services' orders the one that was used first.
    std::size_t first_to_go(i64 pool) const {
        return first_used(pool, [&](const List& list) {
            if (list.eviction == kLru) return free_to_go(list);
            return list.leaves.empty() ? kNone : list.leaves.begin()->second;
        });
    }
    std::size_t least_used(i64 pool) const {
        return first_used(pool, [&](const List& list) { return free_to_go(list, true); });
    }
    template <class Head>
    std::size_t first_used(i64 pool, Head head) const {
        std::size_t best = kNone;
        for (const auto& [service, list] : lists_of_[static_cast<std::size_t>(pool)]) {
            const std::size_t e = head(lists_[list]);
            if (e != kNone && (best == kNone || entries_[e].mark.last < entries_[best].mark.last)) best = e;
        }
        return best;
    }
    // In its place among those free to go, if it is one of them and they are not in the order of use;
    // and out of it, before anything of that changes.
    void rank(std::size_t e) {
        const Entry& entry = entries_[e];
        List& list = lists_[entry.list];
        if (list.eviction != kLru && entry.resident && entry.children == 0) list.leaves.insert({key(list, entry), e});
    }
    void unrank(std::size_t e) {
        List& list = lists_[entries_[e].list];
        if (list.eviction != kLru) list.leaves.erase({key(list, entries_[e]), e});
    }
    static Key key(const List& list, const Entry& entry) {
        return visit(list.eviction, [&](auto order) { return order.key(entry.mark); });
    }
    void refresh(i64 t, std::size_t list) {
        const std::size_t e = free_to_go(lists_[list]);
        if (e == kNone) return dues_.set(list, kNoDue);
        const Entry& entry = entries_[e];
        const i64 stay = lists_[list].stay;
        const i64 due = entry.time > kNever - stay ? kNever : entry.time + stay;
        dues_.set(list, {std::max(due, t), entry.mark.last * static_cast<i64>(held_.size()) + entry.pool});
    }

    const Tables& tables_;
    Timeline& timeline_;
    Pools& pools_;
    const Objects& objects_;
    WriteBack* back_ = nullptr;
    std::vector<std::size_t> first_;  // entry of each node in some pool, or kCrowded
    std::unordered_map<i64, std::size_t> crowded_;  // by place: only looked up, never walked
    std::vector<Entry> entries_;
    std::vector<std::size_t> free_;
    std::vector<i64> frequency_;  // by node: requests that have left it
    std::unordered_map<i64, i64> orphans_;
    std::vector<i64> held_;       // bytes of nodes, by pool
    std::vector<List> lists_;
    std::vector<std::vector<std::pair<i64, std::size_t>>> lists_of_;  // by pool: (service, list)
    WinnerTree<Due> dues_{1, kNoDue};
    i64 uses_ = 0, takings_ = 0;
};

}  // namespace dcsim
