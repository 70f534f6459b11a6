// Who joins a batch and who leaves it before its end.
#pragma once

#include "engine.hpp"

namespace dcsim {

// Could the request join when `after` more iterations are done?
inline bool Engine::fits(std::size_t r, const Waiting& request, i64 after) const {
    const Replica& replica = replicas_[r];
    const Batch& batch = replica.batch;
    if (request.swap >= 0 && !swaps_->at(request.swap).come) return false;
    const bool alone = batch.empty() && replica.loading.empty();
    if (alone && replica.kept == 0) return true;
    const Service& s = service_of(r);
    const i64 work = work_of(request.row);
    const WorkInfo& info = works_[static_cast<std::size_t>(work)];
    const i64 tokens = request.swap >= 0 && !info.token ? swaps_->at(request.swap).state.segment.tokens : info.first_tokens();
    const bool prefill = info.token && (request.swap < 0 || swaps_->at(request.swap).state.course.in_prefill());
    return batch.running() + static_cast<i64>(replica.loading.size()) < s.max_jobs &&
           (alone || ((!s.same_shape || batch.work() == work) && tokens <= batch.left(prefill))) &&
           batch.hold().at(after) + held_of(request).hold - shares(replica, request) <= replica.budget - replica.watermark;
}

// The head of the queue joins the batch, or loads what it can of its prompt first.
inline void Engine::admit(std::size_t r) {
    Replica& replica = replicas_[r];
    const Waiting request = replica.waiting.front();
    replica.waiting.pop_front();
    const auto q = static_cast<std::size_t>(request.row);
    if (request.swap >= 0)
        swap_in(r, request);
    else if (!(hand_overs_.any() && take_over(r, request)))
        look_up(r, request);
    if (replica.slack.on()) replica.slack.make_room(replica.batch, replica.began);
    out_.outcome[q] = kRunning;
    out_.replica[q] = static_cast<std::int32_t>(r);
    if (out_.start[q] >= 0) return;
    out_.start[q] = now_;
    if (useful_.any()) useful_.asked(now_, tables_.requests.reads[q]);
    if (hand_overs_.any()) book(r, request.row);
}

inline void Engine::join(std::size_t r, const Loading& from) {
    if (from.request.swap >= 0) {
        Running state = swaps_->remove(now_, from.request.swap, kMoved).state;
        state.uses = from.uses;
        return replicas_[r].batch.admit(state);
    }
    const auto q = static_cast<std::size_t>(from.request.row);
    const i64 work = work_of(from.request.row);
    const WorkInfo& info = works_[static_cast<std::size_t>(work)];
    Running running;
    running.row = from.request.row;
    running.work = work;
    running.tokens_out = from.request.tokens_out;
    running.uses = from.uses;
    running.course = Course(info.rows, info.count, info.hold, prompt_of(from.request), tables_.requests.output[q] - from.request.tokens_out);
    if (from.tokens > 0) running.course.loaded(from.tokens);
    if (!running.course.in_prefill()) running.course.next(running.segment);
    replicas_[r].batch.admit(running);
}

inline void Engine::prefilled(std::size_t r, Running& request) {
    Replica& replica = replicas_[r];
    if (!replica.slack.on()) return;
    const i64 reads = reads_of(request.row);
    if (reads < 0) return;
    request.uses = replica.slack.prefilled(replica.batch, replica.began, reads, request.uses);
}

// A request that leaves before its end waits with what it has put out so far.
inline Waiting Engine::put_back(Batch& batch, std::size_t slot) {
    const Running& request = batch.request(slot);
    const i64 out = request.tokens_out + request.course.tokens_out(batch.steps_done(request));
    const Waiting waiting{request.row, out};
    batch.release(slot);
    out_.outcome[static_cast<std::size_t>(waiting.row)] = kQueued;
    return waiting;
}

inline void Engine::preempt(std::size_t r) {
    Replica& replica = replicas_[r];
    const std::size_t slot = replica.batch.youngest();
    if (replica.slack.on()) {
        const Running& leaving = replica.batch.request(slot);
        replica.slack.preempted(replica.batch, replica.began, reads_of(leaving.row), leaving.uses, replica.batch.fed(leaving));
    }
    Waiting request;
    if (!swap_out(r, slot, request)) request = put_back(replica.batch, slot);
    ++out_.preemptions[static_cast<std::size_t>(request.row)];
    replica.waiting.push_front(request);
}

}  // namespace dcsim
