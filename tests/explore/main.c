/*
 * Explorer: one scenario from the command line.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "parties.h"

static const MemoryModel *const models[] = {
    &memory_model_sc, &memory_model_tso, &memory_model_c11,
};

static const char *const habits[] = {
    "one", "all", "reverse", "late", "free",
};

static int word_of(const char *word, const char *const *words, int num)
{
    for (int i = 0; i < num; i++) {
        if (!strcmp(word, words[i])) {
            return i;
        }
    }
    fprintf(stderr, "what is '%s'?\n", word);
    exit(2);
}

static Habit habit_of(const char *word)
{
    return word_of(word, habits, ARRAY_SIZE(habits));
}

static const MemoryModel *model_of(const char *word)
{
    const char *names[ARRAY_SIZE(models)];

    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        names[i] = models[i]->name;
    }
    return models[word_of(word, names, ARRAY_SIZE(models))];
}

int main(int argc, char **argv)
{
    Scenario s = { .size = 2, .max_bufs = 1, .num = 4 };
    const MemoryModel *model = &memory_model_sc;
    g_autofree char *format = NULL;
    g_autofree char *driver = NULL;
    g_autofree char *device = NULL;
    g_autofree char *memory = NULL;
    int size = 2, bufs = 1, before = 0, num = 4;
    int64_t limit = INT64_MAX;
    gboolean every_order = FALSE;
    GOptionEntry options[] = {
        { "format", 0, 0, G_OPTION_ARG_STRING, &format, "split or packed" },
        { "size", 0, 0, G_OPTION_ARG_INT, &size, "descriptors" },
        { "event-idx", 0, 0, G_OPTION_ARG_NONE, &s.event_idx, NULL },
        { "indirect", 0, 0, G_OPTION_ARG_NONE, &s.indirect, NULL },
        { "halves", 0, 0, G_OPTION_ARG_NONE, &s.halves,
          "the device accesses event words half by half" },
        { "bufs", 0, 0, G_OPTION_ARG_INT, &bufs, "buffers of a request" },
        { "before", 0, 0, G_OPTION_ARG_INT, &before,
          "requests that came and went" },
        { "num", 0, 0, G_OPTION_ARG_INT, &num, "requests" },
        { "driver", 0, 0, G_OPTION_ARG_STRING, &driver, "habit" },
        { "device", 0, 0, G_OPTION_ARG_STRING, &device, "habit" },
        { "memory", 0, 0, G_OPTION_ARG_STRING, &memory, "sc, tso or c11" },
        { "every-order", 0, 0, G_OPTION_ARG_NONE, &every_order,
          "also of steps whose order does not matter" },
        { "limit", 0, 0, G_OPTION_ARG_INT64, &limit, "states" },
        { NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("");
    ExploreActor actors[EXPLORE_ACTORS];
    ExploreResult result;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, NULL)) {
        return 2;
    }
    s.format = format && !strcmp(format, "packed") ? SHADOW_RING_PACKED :
                                                     SHADOW_RING_SPLIT;
    s.size = size;
    s.max_bufs = bufs;
    s.before = before;
    s.num = num;
    s.driver = habit_of(driver ? driver : "free");
    s.device = habit_of(device ? device : "free");
    model = memory ? model_of(memory) : model;

    parties_init(&s, actors);
    result = explore(model, actors, limit, !every_order);
    printf("%s %" PRIu64 " states, %" PRIu64 " steps, longest run %" PRIu64
           "\n", result.fault ? "FAULT:" : "proved:", result.states,
           result.steps, result.depth);
    if (result.fault) {
        printf("%s\n", result.fault);
    }
    g_free(result.fault);
    return result.fault ? 1 : 0;
}
