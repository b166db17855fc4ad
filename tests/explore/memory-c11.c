/*
 * Memory model of the explorer: the one that the sources are written for, C11
 * atomics with fences (without loads that run ahead of older loads' values).
 *
 * Each word is a list of messages, the stores to it in order.  Each actor has
 * a view: for each word the oldest message that it may still read, so a load
 * may see old values until something forbids it.  A release store carries the
 * view of its actor and an acquire load takes it over; that is the only way in
 * which one actor's other stores become certain to the other.  Seq_cst fences
 * exchange views through one that all of them share.
 *
 * Everything that x86 or Arm hardware does to these programs is allowed here,
 * and more: a missing release, acquire or barrier shows, whatever machine the
 * explorer runs on.
 *
 * A store may be done at once, since the other side can go on to read what was
 * there before; only words that both sides write need the order.
 *
 * Messages that both actors have passed are forgotten and the rest counted
 * anew, so that equal situations are equal states.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "memory.h"

static void view_join(View *view, const View *other)
{
    for (unsigned l = 0; l < locations_num(); l++) {
        view->at[l] = MAX(view->at[l], other->at[l]);
    }
}

static bool view_covers(const View *view, const View *other)
{
    for (unsigned l = 0; l < locations_num(); l++) {
        if (view->at[l] < other->at[l]) {
            return false;
        }
    }
    return true;
}

static void view_move(View *view, const View *base)
{
    for (unsigned l = 0; l < locations_num(); l++) {
        view->at[l] -= MIN(view->at[l], base->at[l]);
    }
}

static size_t c11_bytes(void)
{
    return offsetof(ViewMemory, cell) + locations_num() * sizeof(ViewCell);
}

static void c11_init(Memory *memory, const uint8_t *bytes)
{
    ViewMemory *m = &memory->view;

    memset(memory, 0, sizeof(*memory));
    for (unsigned l = 0; l < locations_num(); l++) {
        m->cell[l].num = 1;
        memcpy(&m->cell[l].value[0], &bytes[location(l)->offset],
               location(l)->size);
    }
}

static unsigned c11_location(const Step *step)
{
    int l = location_at(step->offset, step->size);

    g_assert_cmpint(l, >=, 0);
    return l;
}

static unsigned c11_choices(const Memory *memory, unsigned actor,
                            const Step *step)
{
    const ViewMemory *m = &memory->view;

    if (step->kind == STEP_LOAD) {
        unsigned l = c11_location(step);

        return m->cell[l].num - m->current[actor].at[l];
    }
    return step->kind == STEP_WAIT ? m->signalled[actor] : 1;
}

static bool c11_local(const Memory *memory, unsigned actor, const Step *step)
{
    switch (step->kind) {
    case STEP_STORE:
        return !location(c11_location(step))->both_write;
    case STEP_FENCE:
        return step->order != EXPLORE_SEQ_CST;
    case STEP_SIGNAL:
        /* Two signals may become one: it matters when. */
        return !memory->view.signalled[!actor];
    default:
        return false;
    }
}

/* Returns: the number of a view like @view, for a message. */
static uint8_t keep_view(ViewMemory *m, unsigned *num, const View *view)
{
    if (view_covers(&m->current[0], view) &&
        view_covers(&m->current[1], view)) {
        return 0;
    }
    for (unsigned i = 0; i < *num; i++) {
        if (!memcmp(&m->view[i], view, sizeof(*view))) {
            return i + 1;
        }
    }
    g_assert_cmpuint(*num, <, VIEW_VIEWS);
    m->view[*num] = *view;
    return ++*num;
}

static void forget_messages(ViewMemory *m, const View *base)
{
    for (unsigned l = 0; l < locations_num(); l++) {
        ViewCell *cell = &m->cell[l];
        unsigned num = base->at[l];

        if (num) {
            cell->num -= num;
            memmove(cell->view, cell->view + num, cell->num);
            memset(cell->view + cell->num, 0, num);
            memmove(cell->value, cell->value + num,
                    cell->num * sizeof(cell->value[0]));
            memset(cell->value + cell->num, 0, num * sizeof(cell->value[0]));
        }
    }
}

static void renumber_views(ViewMemory *m, const View *base)
{
    View old[VIEW_VIEWS];
    unsigned num = 0;

    memcpy(old, m->view, sizeof(old));
    memset(m->view, 0, sizeof(m->view));
    for (unsigned l = 0; l < locations_num(); l++) {
        ViewCell *cell = &m->cell[l];

        for (unsigned i = 0; i < cell->num; i++) {
            if (cell->view[i]) {
                View view = old[cell->view[i] - 1];

                view_move(&view, base);
                cell->view[i] = keep_view(m, &num, &view);
            }
        }
    }
}

static void c11_normalize(ViewMemory *m)
{
    View base = m->current[0];

    for (unsigned l = 0; l < locations_num(); l++) {
        base.at[l] = MIN(base.at[l], m->current[1].at[l]);
    }
    for (unsigned a = 0; a < EXPLORE_ACTORS; a++) {
        view_move(&m->current[a], &base);
        view_move(&m->acquire[a], &base);
        view_move(&m->release[a], &base);
        view_move(&m->signal[a], &base);
    }
    view_move(&m->fence, &base);
    forget_messages(m, &base);
    renumber_views(m, &base);
}

static uint64_t c11_load(ViewMemory *m, unsigned actor, const Step *step,
                         unsigned choice)
{
    unsigned l = c11_location(step);
    unsigned i = m->current[actor].at[l] + choice;
    const ViewCell *cell = &m->cell[l];
    uint64_t value = cell->value[i];

    m->current[actor].at[l] = i;
    m->acquire[actor].at[l] = MAX(m->acquire[actor].at[l], i);
    if (cell->view[i]) {
        const View *view = &m->view[cell->view[i] - 1];

        view_join(&m->acquire[actor], view);
        if (step->order == EXPLORE_ACQUIRE) {
            view_join(&m->current[actor], view);
        }
    }
    return value;
}

static unsigned num_views(const ViewMemory *m)
{
    unsigned num = 0;

    for (unsigned l = 0; l < locations_num(); l++) {
        for (unsigned i = 0; i < m->cell[l].num; i++) {
            num = MAX(num, m->cell[l].view[i]);
        }
    }
    return num;
}

static void c11_store(ViewMemory *m, unsigned actor, const Step *step)
{
    unsigned l = c11_location(step);
    ViewCell *cell = &m->cell[l];
    unsigned i = cell->num++;
    unsigned num = num_views(m);
    View view;

    g_assert_cmpuint(i, <, VIEW_MESSAGES);
    cell->value[i] = step->value;
    m->current[actor].at[l] = i;
    m->acquire[actor].at[l] = i;
    view = step->order == EXPLORE_RELEASE ? m->current[actor] :
                                            m->release[actor];
    view.at[l] = 0;
    cell->view[i] = keep_view(m, &num, &view);
}

static void c11_fence(ViewMemory *m, unsigned actor, ExploreOrder order)
{
    if (order != EXPLORE_RELEASE) {
        view_join(&m->current[actor], &m->acquire[actor]);
    }
    if (order == EXPLORE_SEQ_CST) {
        view_join(&m->current[actor], &m->fence);
        m->fence = m->current[actor];
        m->acquire[actor] = m->current[actor];
    }
    if (order != EXPLORE_ACQUIRE) {
        m->release[actor] = m->current[actor];
    }
}

/* A system call orders what the signal carries, and nothing else. */
static void c11_wait(ViewMemory *m, unsigned actor)
{
    m->signalled[actor] = false;
    view_join(&m->current[actor], &m->signal[actor]);
    view_join(&m->acquire[actor], &m->signal[actor]);
    memset(&m->signal[actor], 0, sizeof(m->signal[actor]));
}

static uint64_t c11_perform(Memory *memory, unsigned actor, const Step *step,
                            unsigned choice)
{
    ViewMemory *m = &memory->view;
    uint64_t value = 0;

    switch (step->kind) {
    case STEP_LOAD:
        value = c11_load(m, actor, step, choice);
        break;
    case STEP_STORE:
        c11_store(m, actor, step);
        break;
    case STEP_FENCE:
        c11_fence(m, actor, step->order);
        break;
    case STEP_SIGNAL:
        m->signalled[!actor] = true;
        view_join(&m->signal[!actor], &m->current[actor]);
        break;
    case STEP_WAIT:
        c11_wait(m, actor);
        break;
    }
    c11_normalize(m);
    return value;
}

static void c11_hash(const Memory *memory, Hash *hash)
{
    const ViewMemory *m = &memory->view;

    hash_bytes(hash, m, offsetof(ViewMemory, view));
    hash_bytes(hash, m->view, num_views(m) * sizeof(m->view[0]));
    hash_bytes(hash, m->cell, locations_num() * sizeof(m->cell[0]));
}

const MemoryModel memory_model_c11 = {
    .name = "c11",
    .bytes = c11_bytes,
    .init = c11_init,
    .choices = c11_choices,
    .local = c11_local,
    .perform = c11_perform,
    .internal = NULL,
    .perform_internal = NULL,
    .hash = c11_hash,
};
