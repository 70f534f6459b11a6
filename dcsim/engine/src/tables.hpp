// What comes in: int64 tables, one row an entity. Columns as in border.py.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "column.hpp"
#include "eviction.hpp"
#include "routers.hpp"
#include "ticks.hpp"

namespace dcsim {

enum Tier : i64 { kHbm, kDram, kNand };
inline constexpr std::size_t kTiers = 3;
enum Rule : i64 { kFixed, kPrefill, kDecode };
enum Start : i64 { kCold, kWarm, kDown };
enum Outcome : std::int8_t { kQueued, kRunning, kCompleted, kRejected, kAwaited, kAbandoned };
enum Category : i64 { kWeights, kLive, kTransient, kCache, kArtifacts, kAdapters };
enum Cause { kTaken, kMoved, kExpired, kEvicted, kLost, kDropped, kSpilled, kRead, kCauses };
enum EventKind : i64 { kLoading, kUp, kWentDown, kCapacity };

struct Pool {
    static constexpr const char* columns = "tier capacity";
    i64 tier, capacity;
};
struct Channel {
    static constexpr const char* columns = "bandwidth latency";
    i64 bandwidth, latency;
};
struct Phase {
    static constexpr const char* columns = "launch weights";
    i64 launch, weights;
};
struct SegmentRow {
    static constexpr const char* columns =
        "rule phase steps tokens dense own own_slope ctx pair live live_slope peak mean first";
    i64 rule, phase, steps, tokens, dense, own, own_slope, ctx, pair, live, live_slope, peak, mean, first;
};
struct Work {
    static constexpr const char* columns = "segment segments artifact context";
    i64 segment, segments, artifact, context;
};
struct Service {
    static constexpr const char* columns =
        "router replica replicas max_jobs max_tokens same_shape weights reserve watermark checkpoint library keep "
        "cache_hbm cache_dram cache_nand cache_least swap order";
    i64 router, replica, replicas, max_jobs, max_tokens, same_shape, weights, reserve, watermark, checkpoint, library, keep;
    i64 cache_hbm, cache_dram, cache_nand, cache_least, swap, order;
};
struct Class {
    static constexpr const char* columns = "service artifact_dram artifact_nand context_dram context_nand";
    i64 service, artifact_dram, artifact_nand, context_dram, context_nand;
};
struct ReplicaRow {
    static constexpr const char* columns =
        "service hbm dram home store load onboard offload spill fetch start domain near_out near_in far_out far_in "
        "library bring";
    i64 service, hbm, dram, home, store, load, onboard, offload, spill, fetch, start;
    i64 domain, near_out, near_in, far_out, far_in;
    i64 library, bring;
};

struct Node {
    static constexpr const char* columns = "parent tokens bytes klass";
    i64 parent, tokens, bytes, klass;
};
// Watermarks are in millionths of a capacity.
inline constexpr i64 kWhole = 1'000'000;
// What a service's nodes of the forest obey.
struct Policy {
    static constexpr const char* columns = "evict_dram evict_nand admit_dram admit_nand back exclusive "
        "high_dram low_dram high_nand low_nand faster wait wait_base wait_ki";
    i64 evict_dram = 0, evict_nand = 0, admit_dram = 0, admit_nand = 0;
    i64 back = 0, exclusive = 0, high_dram = 0, low_dram = 0, high_nand = 0, low_nand = 0, faster = 0;
    i64 wait = 0, wait_base = 0, wait_ki = 0;
};

template <class Row>
inline constexpr std::size_t kColumns = sizeof(Row) / sizeof(i64);

struct Requests {
    Column<i64> arrival, klass, work, prompt, output;
    std::vector<i64> reads, leaves;              // empty: no content is known
    std::vector<i64> delay, after_start, after;  // all empty: no request waits for another
    std::vector<i64> handover, ahead, fed;       // all empty: nothing is handed over
    i64 size() const { return static_cast<i64>(arrival.size()); }
    // Whether more may come: of content and of who waits for whom all is known beforehand.
    bool more() const { return reads.empty() && after_start.empty(); }
};
// What comes of each request.
struct RequestColumn {
    const char* name;
    Column<i64> Requests::*column;
};
inline constexpr RequestColumn kRequestColumns[] = {{"arrival", &Requests::arrival}, {"klass", &Requests::klass}, {"work", &Requests::work},
                                                    {"prompt", &Requests::prompt}, {"output", &Requests::output}};

struct Tables {
    std::vector<Pool> pools;
    std::vector<Channel> channels;
    std::vector<i64> path_start, path_channels;
    std::vector<Phase> phases;
    std::vector<SegmentRow> segments;
    std::vector<Work> works;
    std::vector<Service> services;
    std::vector<Class> classes;
    std::vector<ReplicaRow> replicas;
    std::vector<Node> nodes;
    std::vector<i64> brought;  // by node; empty: none is
    std::vector<i64> gaps;
    std::vector<Policy> policies;  // one a service
    Requests requests;

    std::span<const i64> path(i64 p) const {
        const auto first = static_cast<std::size_t>(path_start[static_cast<std::size_t>(p)]);
        const auto last = static_cast<std::size_t>(path_start[static_cast<std::size_t>(p) + 1]);
        return std::span<const i64>(path_channels).subspan(first, last - first);
    }
    bool is_brought(i64 n) const { return !brought.empty() && brought[static_cast<std::size_t>(n)] != 0; }
    // The last brought node of a path, down to which all are; -1: none.
    i64 last_brought(i64 n) const {
        if (brought.empty()) return -1;
        while (n >= 0 && !is_brought(n)) n = nodes[static_cast<std::size_t>(n)].parent;
        return n;
    }
    // How many nodes, and their bytes, there are down to a node.
    i64 path_length(i64 n) const {
        i64 nodes_to = 0;
        for (; n >= 0; n = nodes[static_cast<std::size_t>(n)].parent) ++nodes_to;
        return nodes_to;
    }
    i64 path_bytes(i64 n) const {
        i64 bytes = 0;
        for (; n >= 0; n = nodes[static_cast<std::size_t>(n)].parent) bytes += nodes[static_cast<std::size_t>(n)].bytes;
        return bytes;
    }
    // Classes, and services, that have brought nodes.
    std::vector<bool> classes_that_bring() const;
    std::vector<bool> services_that_bring() const;
    // The ns that bytes take over one or two paths, if nothing else does.
    i64 time_to_bring(i64 bytes, i64 path, i64 then = -1) const;
    void check() const;
    // The five columns of requests that come after so many `known`, of which the last is of `latest` ns.
    void check_requests(const Requests& q, i64 latest, std::size_t known) const;

  private:
    void check_links() const;
    void check_works() const;
    void check_services() const;
    void check_replicas() const;
    void check_graph() const;
    void check_handovers() const;
    i64 held_at_end(std::size_t request) const;
    void check_content() const;
    void check_brought() const;
    void check_policies() const;
    i64 service_of(i64 klass) const { return classes[static_cast<std::size_t>(klass)].service; }
};

namespace detail {

inline void require(bool ok, const char* table, std::size_t row, const char* what) {
    if (!ok) throw std::invalid_argument(std::string(table) + " row " + std::to_string(row) + ": " + what);
}

template <class Rows>
bool in(i64 index, const Rows& rows) {
    return index >= 0 && index < static_cast<i64>(rows.size());
}

inline bool all_at_least(std::initializer_list<i64> values, i64 low) {
    for (const i64 v : values)
        if (v < low) return false;
    return true;
}

}  // namespace detail

inline i64 Tables::time_to_bring(i64 bytes, i64 one, i64 then) const {
    std::vector<i64> named(path(one).begin(), path(one).end());
    if (then >= 0) named.insert(named.end(), path(then).begin(), path(then).end());
    i64 slowest = kNever, latency = 0;
    for (const i64 c : named) {
        const Channel& channel = channels[static_cast<std::size_t>(c)];
        slowest = std::min(slowest, std::max<i64>(1, channel.bandwidth / std::count(named.begin(), named.end(), c)));
        latency += channel.latency;
    }
    const i128 ns = (static_cast<i128>(bytes) * 1'000'000'000 + slowest - 1) / slowest + latency;
    return ns > kNever ? kNever : static_cast<i64>(ns);
}

// A wrong row is an error with its place, never a crash: the border is public.
inline void Tables::check() const {
    check_links();
    check_works();
    check_services();
    check_replicas();
    check_requests(requests, 0, 0);
    check_policies();
    if (!nodes.empty() || !requests.reads.empty() || !requests.leaves.empty()) check_content();
    if (!brought.empty()) check_brought();
    for (std::size_t i = 0; i < gaps.size(); ++i)
        detail::require(gaps[i] > (i == 0 ? 0 : gaps[i - 1]) && !nodes.empty(), "gaps", i, "rising, at least 1, with content");
    if (!requests.after_start.empty() || !requests.after.empty() || !requests.delay.empty()) check_graph();
    if (!requests.handover.empty() || !requests.ahead.empty() || !requests.fed.empty()) check_handovers();
}

inline void Tables::check_links() const {
    using detail::in, detail::require;
    for (std::size_t i = 0; i < pools.size(); ++i)
        require(pools[i].tier >= 0 && pools[i].tier <= 2 && pools[i].capacity >= 0, "pools", i, "tier 0..2, capacity >= 0");
    for (std::size_t i = 0; i < channels.size(); ++i)
        require(channels[i].bandwidth >= 1 && channels[i].latency >= 0, "channels", i, "bandwidth >= 1, latency >= 0");
    require(!path_start.empty() && path_start.front() == 0 &&
                path_start.back() == static_cast<i64>(path_channels.size()), "path_start", 0, "must span path_channels");
    for (std::size_t i = 0; i + 1 < path_start.size(); ++i)
        require(path_start[i] < path_start[i + 1], "path_start", i, "a path needs a channel");
    for (std::size_t i = 0; i < path_channels.size(); ++i)
        require(in(path_channels[i], channels), "path_channels", i, "no such channel");
}

inline void Tables::check_works() const {
    using detail::all_at_least, detail::in, detail::require;
    for (std::size_t i = 0; i < phases.size(); ++i)
        require(phases[i].launch >= 1 && phases[i].weights >= 0, "phases", i, "launch >= 1, weights >= 0");
    for (std::size_t i = 0; i < segments.size(); ++i) {
        const SegmentRow& s = segments[i];
        require(in(s.phase, phases) && s.rule >= 0 && s.rule <= 2, "segments", i, "no such phase or rule");
        require(s.rule != kFixed || s.steps >= 1, "segments", i, "steps >= 1");
        require(s.rule != kPrefill || s.tokens >= 1, "segments", i, "a chunk has at least one token");
        require(all_at_least({s.tokens, s.dense, s.own, s.own_slope, s.ctx, s.pair, s.live, s.peak, s.mean}, 0) &&
                    (s.rule != kFixed || s.live + s.live_slope * (s.steps - 1) >= 0),
                "segments", i, "no value may be negative");
        require(s.mean <= s.peak, "segments", i, "mean <= peak");
    }
    for (std::size_t i = 0; i < works.size(); ++i) {
        const Work& w = works[i];
        require(w.segments >= 1 && in(w.segment, segments) && in(w.segment + w.segments - 1, segments) &&
                    w.artifact >= 0 && w.context >= 0, "works", i, "no such segments");
        const SegmentRow* rows = &segments[static_cast<std::size_t>(w.segment)];
        bool fixed = true;
        for (i64 k = 0; k < w.segments; ++k) fixed = fixed && rows[k].rule == kFixed;
        require(fixed || w.context == 0, "works", i, "what a token work leaves follows from its tokens");
        require(fixed || (w.segments == 2 && rows[0].rule == kPrefill && rows[1].rule == kDecode), "works", i,
                "all fixed, or one prefill and one decode");
        require(fixed || rows[1].live <= rows[0].live, "works", i, "decode live <= prefill live");
    }
}

inline void Tables::check_services() const {
    using detail::all_at_least, detail::in, detail::require;
    for (std::size_t i = 0; i < services.size(); ++i) {
        const Service& s = services[i];
        require(s.router >= 0 && s.router < static_cast<i64>(kRouters.size()) && s.replicas >= 1 && in(s.replica, replicas) &&
                    in(s.replica + s.replicas - 1, replicas), "services", i, "no such router or replicas");
        require(s.max_jobs >= 1 && s.max_tokens >= 1 &&
                    all_at_least({s.weights, s.reserve, s.watermark, s.checkpoint, s.library, s.cache_hbm, s.cache_dram, s.cache_nand, s.cache_least, s.swap, s.order}, 0) &&
                    s.cache_hbm <= 1 && s.swap <= 1 && s.order <= 1, "services", i, "limit out of range");
    }
    for (std::size_t i = 0; i < classes.size(); ++i)
        require(in(classes[i].service, services) &&
                    all_at_least({classes[i].artifact_dram, classes[i].artifact_nand, classes[i].context_dram,
                                  classes[i].context_nand}, 0), "classes", i, "no such service, or a negative time");
}

inline void Tables::check_replicas() const {
    using detail::in, detail::require;
    const i64 paths = static_cast<i64>(path_start.size()) - 1;
    for (std::size_t i = 0; i < replicas.size(); ++i) {
        const ReplicaRow& r = replicas[i];
        require(in(r.service, services), "replicas", i, "no such service");
        const Service& s = services[static_cast<std::size_t>(r.service)];
        require(static_cast<i64>(i) >= s.replica && static_cast<i64>(i) < s.replica + s.replicas, "replicas", i, "not among its service's");
        for (const i64 p : {r.hbm, r.dram, r.home, r.store, r.library}) require(in(p, pools), "replicas", i, "no such pool");
        for (const i64 p : {r.load, r.onboard, r.offload, r.spill, r.fetch, r.near_out, r.near_in, r.far_out, r.far_in, r.bring})
            require(p >= 0 && p < paths, "replicas", i, "no such path");
        require(r.start >= 0 && r.start <= 2, "replicas", i, "start is 0..2");
    }
}

inline void Tables::check_requests(const Requests& q, i64 latest, std::size_t known) const {
    using detail::in, detail::require;
    const std::size_t n = q.arrival.size();
    require(q.klass.size() == n && q.work.size() == n && q.prompt.size() == n && q.output.size() == n, "requests", 0,
            "arrays differ in length");
    for (std::size_t i = 0; i < n; ++i) {
        require(q.arrival[i] >= (i ? q.arrival[i - 1] : latest), "requests", known + i, "arrivals must be sorted and >= 0");
        require(in(q.klass[i], classes) && in(q.work[i], works), "requests", known + i, "no such class or work");
        const bool token = segments[static_cast<std::size_t>(works[static_cast<std::size_t>(q.work[i])].segment)].rule != kFixed;
        require(!token || (q.prompt[i] >= 1 && q.output[i] >= 1), "requests", known + i, "prompt and output are at least 1");
    }
}

inline void Tables::check_content() const {
    using detail::all_at_least, detail::in, detail::require;
    const Requests& q = requests;
    require(q.reads.size() == q.arrival.size() && q.leaves.size() == q.arrival.size(), "requests", 0, "arrays differ in length");
    std::vector<i64> depth(nodes.size()), bytes(nodes.size());  // tokens and bytes of the path
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        const Node& n = nodes[i];
        require(n.parent >= -1 && n.parent < static_cast<i64>(i), "nodes", i, "the parent is a lower row");
        require(in(n.klass, classes) && all_at_least({n.tokens, n.bytes}, 0), "nodes", i, "no such class, or a negative size");
        const bool root = n.parent < 0;
        const Node& above = nodes[root ? i : static_cast<std::size_t>(n.parent)];
        require(service_of(n.klass) == service_of(above.klass), "nodes", i, "its parent is another service's");
        depth[i] = n.tokens + (root ? 0 : depth[static_cast<std::size_t>(n.parent)]);
        bytes[i] = (is_brought(static_cast<i64>(i)) ? 0 : n.bytes) + (root ? 0 : bytes[static_cast<std::size_t>(n.parent)]);
    }
    for (std::size_t i = 0; i < q.reads.size(); ++i)
        for (const i64 n : {q.reads[i], q.leaves[i]}) {
            if (n == -1) continue;
            require(in(n, nodes), "requests", i, "no such node");
            const auto node = static_cast<std::size_t>(n);
            const i64 first = works[static_cast<std::size_t>(q.work[i])].segment;
            require(service_of(nodes[node].klass) == service_of(q.klass[i]) &&
                        (is_brought(n) || segments[static_cast<std::size_t>(first)].rule != kFixed), "requests", i,
                    "a node of another service, or of a fixed work");
            require(n != q.reads[i] || depth[node] <= q.prompt[i], "requests", i, "reads more tokens than its prompt has");
            const bool in_hbm = services[static_cast<std::size_t>(service_of(q.klass[i]))].cache_hbm != 0;
            if (segments[static_cast<std::size_t>(first)].rule == kFixed) continue;
            const i64 live = segments[static_cast<std::size_t>(first) + 1].live;  // it is token work: decode
            require(!in_hbm || n != q.reads[i] || bytes[node] <= live * q.prompt[i], "requests", i, "reads more bytes than its prompt has");
        }
}

inline void Tables::check_brought() const {
    using detail::require;
    require(brought.size() == nodes.size(), "brought", 0, "one a node");
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        require(brought[i] == 0 || brought[i] == 1, "brought", i, "0 or 1");
        if (brought[i] == 0) continue;
        require(nodes[i].tokens == 0, "nodes", i, "is brought, and has no tokens");
        require(nodes[i].parent < 0 || is_brought(nodes[i].parent), "nodes", i, "is brought, and its parent is not");
    }
    const Requests& q = requests;
    for (std::size_t i = 0; i < q.reads.size(); ++i) {
        const i64 reads = last_brought(q.reads[i]), leaves = last_brought(q.leaves[i]);
        require(q.leaves[i] < 0 || (q.reads[i] < 0 ? leaves < 0 : leaves == reads), "requests", i, "leaves what it has not brought");
        if (reads < 0 || q.handover.empty()) continue;
        for (i64 k = q.after_start[i]; k < q.after_start[i + 1]; ++k)
            require(q.handover[static_cast<std::size_t>(k)] == 0, "requests", i, "takes a hand-over, and brings something");
    }
    for (std::size_t i = 0; i < replicas.size(); ++i)
        require(pools[static_cast<std::size_t>(replicas[i].library)].tier == kNand, "replicas", i, "the library is NAND");
}

inline std::vector<bool> Tables::classes_that_bring() const {
    std::vector<bool> found(classes.size(), false);
    for (std::size_t i = 0; i < brought.size(); ++i)
        if (brought[i] != 0) found[static_cast<std::size_t>(nodes[i].klass)] = true;
    return found;
}

inline std::vector<bool> Tables::services_that_bring() const {
    std::vector<bool> found(services.size(), false);
    const std::vector<bool> by_class = classes_that_bring();
    for (std::size_t c = 0; c < classes.size(); ++c)
        if (by_class[c]) found[static_cast<std::size_t>(classes[c].service)] = true;
    return found;
}

inline void Tables::check_policies() const {
    using detail::all_at_least, detail::require;
    require(policies.size() == services.size(), "policies", 0, "one row a service");
    for (std::size_t i = 0; i < policies.size(); ++i) {
        const Policy& p = policies[i];
        for (const i64 order : {p.evict_dram, p.evict_nand})
            require(order >= 0 && order < static_cast<i64>(kEvictions.size()), "policies", i, "no such eviction");
        require(all_at_least({p.admit_dram, p.admit_nand}, 0), "policies", i, "no value may be negative");
        require(p.exclusive >= 0 && p.exclusive <= p.back && p.back <= 1, "policies", i, "back is 0 or 1, and exclusive with it");
        for (const auto& [high, low] : {std::pair{p.high_dram, p.low_dram}, std::pair{p.high_nand, p.low_nand}})
            require(low >= 0 && low <= high && high <= kWhole, "policies", i, "0 <= low <= high <= 1,000,000");
        require(p.faster == 0 || p.faster == 1, "policies", i, "faster is 0 or 1");
        require((p.wait == 0 || p.wait == 1) && all_at_least({p.wait_base, p.wait_ki}, 0), "policies", i, "wait is 0 or 1, and no time negative");
    }
}

inline void Tables::check_graph() const {
    using detail::require;
    const Requests& q = requests;
    const std::size_t n = q.arrival.size();
    require(q.delay.size() == n && q.after_start.size() == n + 1, "requests", 0, "arrays differ in length");
    require(q.after_start.front() == 0 && q.after_start.back() == static_cast<i64>(q.after.size()), "after_start", 0,
            "must span after");
    for (std::size_t i = 0; i < n; ++i) {
        require(q.after_start[i] <= q.after_start[i + 1], "after_start", i, "must not fall");
        require(q.delay[i] >= 0, "requests", i, "no delay may be negative");
    }
    for (std::size_t i = 0; i < n; ++i) {
        i64 before = -1;
        for (i64 k = q.after_start[i]; k < q.after_start[i + 1]; ++k) {
            const i64 other = q.after[static_cast<std::size_t>(k)];
            require(other > before && other < static_cast<i64>(i), "requests", i, "waits for lower rows, in rising order");
            before = other;
        }
    }
}

inline void Tables::check_handovers() const {
    using detail::require;
    const Requests& q = requests;
    require(!q.after_start.empty() && q.handover.size() == q.after.size() && q.ahead.size() == q.after.size() &&
                q.fed.size() == q.arrival.size(), "requests", 0, "hand-overs: arrays differ in length");
    for (std::size_t taker = 0; taker < q.arrival.size(); ++taker) {
        bool any = false;
        for (i64 k = q.after_start[taker]; k < q.after_start[taker + 1]; ++k) {
            const auto entry = static_cast<std::size_t>(k);
            const i64 bytes = q.handover[entry];
            require(bytes >= 0 && q.ahead[entry] >= 0 && q.ahead[entry] <= bytes, "requests", taker, "0 <= ahead <= handover");
            require(q.ahead[entry] == 0 || q.after_start[taker + 1] - q.after_start[taker] == 1, "requests", taker,
                    "bytes go ahead only to one that waits for one alone");
            if (bytes == 0) continue;
            any = true;
            const auto giver = static_cast<std::size_t>(q.after[entry]);
            require(service_of(q.klass[giver]) < service_of(q.klass[taker]), "requests", taker,
                    "hand-overs go to a service of a higher row");
            require(bytes <= held_at_end(giver), "requests", taker, "is handed over more than is held at the end");
        }
        const bool token = segments[static_cast<std::size_t>(works[static_cast<std::size_t>(q.work[taker])].segment)].rule != kFixed;
        require(q.fed[taker] >= 0 && q.fed[taker] <= (any && token ? q.prompt[taker] : 0), "requests", taker,
                "fed: tokens of its prompt that a hand-over brings");
    }
}

// What a request counts as holding in its last step.
inline i64 Tables::held_at_end(std::size_t request) const {
    const Work& work = works[static_cast<std::size_t>(requests.work[request])];
    const SegmentRow* rows = &segments[static_cast<std::size_t>(work.segment)];
    const i64 prompt = requests.prompt[request], output = requests.output[request];
    if (rows->rule != kFixed) return output > 1 ? rows[1].live * (prompt + output - 1) : rows[0].live * prompt;
    i64 most = 0;
    for (i64 i = 0; i < work.segments; ++i)
        most = std::max(most, rows[i].live + std::max<i64>(0, rows[i].live_slope * (rows[i].steps - 1)) + rows[i].peak);
    return most;
}

}  // namespace dcsim
