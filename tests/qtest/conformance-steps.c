/*
 * What a driver does to a device's registers and when, in any order.
 *
 * A program is a word of letters, one step each:
 *
 *   0 reset          a ACKNOWLEDGE     d DRIVER          f FEATURES_OK
 *   o DRIVER_OK      u no DRIVER_OK    x FAILED          N NEEDS_RESET
 *   g accept what an ordinary driver wants    G all that is offered
 *   Z accept nothing        H accept everything that there could be
 *   I all of 0adgf, and every queue set up and enabled   S the same and o
 *   q set up the queue      e enable it       v write 0 to its enable
 *   E write 2 to its enable                  j go on with the other queue
 *   z size 0   y size 3     Y size 32768      t a queue that is not there
 *   r a request             p the same without a kick    k a kick
 *   l a chain that loops    w wait for what was offered
 *   s the VM stops          c it goes on
 *   b no bus mastering      B bus mastering
 *   m no registers          M registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "conformance.h"
#include "standard-headers/linux/pci_regs.h"

static void add_status(Rig *r, uint8_t bits)
{
    rig_set_status(r, rig_status(r) | bits);
}

static void set_size(Rig *r, uint16_t size)
{
    guest_common_writew(&r->pci, COMMON(queue_select), r->current);
    guest_common_writew(&r->pci, COMMON(queue_size), size);
}

static void set_command(Rig *r, uint16_t set, uint16_t clear)
{
    uint16_t command = qpci_config_readw(r->pci.pdev, PCI_COMMAND);

    qpci_config_writew(r->pci.pdev, PCI_COMMAND, (command | set) & ~clear);
}

static void offer_loop(Rig *r)
{
    GuestQueue *q = rig_queue(r);
    GuestDesc descs[RIG_QUEUE_SIZE];

    for (unsigned i = 0; i < RIG_QUEUE_SIZE; i++) {
        descs[i] = (GuestDesc) { rig_data(r, 0), 1,
                                 VRING_DESC_F_WRITE | VRING_DESC_F_NEXT };
    }
    queue_offer(q, descs, RIG_QUEUE_SIZE);
    r->asked++;
}

static void offer_silently(Rig *r)
{
    GuestDesc descs[RIG_QUEUE_SIZE];
    unsigned num = r->kind->request(r, descs);

    queue_write_chain(rig_queue(r), descs, num);
    queue_publish(rig_queue(r));
    r->asked++;
}

/* As rig_init(), but for the last step. */
static void prepare(Rig *r)
{
    rig_set_status(r, 0);
    add_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    add_status(r, VIRTIO_CONFIG_S_DRIVER);
    rig_accept(r, rig_wanted(r));
    add_status(r, VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned n = 0; n < r->kind->num_queues; n++) {
        rig_set_up_queue(r, n);
        rig_enable(r, n, 1);
    }
}

static void step_status(Rig *r, char letter)
{
    switch (letter) {
    case '0':
        rig_set_status(r, 0);
        break;
    case 'a':
        add_status(r, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        break;
    case 'd':
        add_status(r, VIRTIO_CONFIG_S_DRIVER);
        break;
    case 'f':
        add_status(r, VIRTIO_CONFIG_S_FEATURES_OK);
        break;
    case 'o':
        add_status(r, VIRTIO_CONFIG_S_DRIVER_OK);
        break;
    case 'u':
        rig_set_status(r, rig_status(r) & ~VIRTIO_CONFIG_S_DRIVER_OK);
        break;
    case 'x':
        add_status(r, VIRTIO_CONFIG_S_FAILED);
        break;
    case 'N':
        add_status(r, VIRTIO_CONFIG_S_NEEDS_RESET);
        break;
    }
}

static void step_features(Rig *r, char letter)
{
    switch (letter) {
    case 'g':
        rig_accept(r, rig_wanted(r));
        break;
    case 'G':
        rig_accept(r, rig_offered(r));
        break;
    case 'Z':
        rig_accept(r, 0);
        break;
    case 'H':
        rig_accept(r, UINT64_MAX);
        break;
    case 'I':
        prepare(r);
        break;
    case 'S':
        rig_init(r);
        break;
    }
}

static void step_queue(Rig *r, char letter)
{
    static const char sizes[] = "zyY";
    static const uint16_t size_of[] = { 0, 3, 32768 };

    switch (letter) {
    case 'q':
        rig_set_up_queue(r, r->current);
        break;
    case 'e':
        rig_enable(r, r->current, 1);
        break;
    case 'v':
        rig_enable(r, r->current, 0);
        break;
    case 'E':
        rig_enable(r, r->current, 2);
        break;
    case 'j':
        r->current = (r->current + 1) % r->kind->num_queues;
        break;
    case 't':
        guest_common_writew(&r->pci, COMMON(queue_select), 999);
        guest_common_writew(&r->pci, COMMON(queue_size), 8);
        guest_common_writew(&r->pci, COMMON(queue_enable), 1);
        break;
    default:
        set_size(r, size_of[strchr(sizes, letter) - sizes]);
        break;
    }
}

static void step_request(Rig *r, char letter)
{
    if (!rig_queue(r)->qts) {
        rig_set_up_queue(r, r->current);
    }
    switch (letter) {
    case 'r':
        rig_offer(r);
        break;
    case 'p':
        offer_silently(r);
        break;
    case 'k':
        queue_kick(rig_queue(r));
        break;
    case 'l':
        offer_loop(r);
        break;
    }
}

static void step_machine(Rig *r, char letter)
{
    switch (letter) {
    case 's':
        qtest_qmp_assert_success(r->qts, "{ 'execute': 'stop' }");
        break;
    case 'c':
        qtest_qmp_assert_success(r->qts, "{ 'execute': 'cont' }");
        break;
    case 'b':
        set_command(r, 0, PCI_COMMAND_MASTER);
        break;
    case 'B':
        set_command(r, PCI_COMMAND_MASTER, 0);
        break;
    case 'm':
        set_command(r, 0, PCI_COMMAND_MEMORY);
        break;
    case 'M':
        set_command(r, PCI_COMMAND_MEMORY, 0);
        break;
    }
}

static const char *run_program(Rig *r, const Case *c)
{
    static const struct {
        const char *letters;
        void (*step)(Rig *r, char letter);
    } steps[] = {
        { "0adfouxN", step_status }, { "gGZHIS", step_features },
        { "qevEjzyYt", step_queue }, { "rpkl", step_request },
        { "scbBmM", step_machine },
    };
    const char *what = IDLE;

    for (const char *letter = c->program; *letter; letter++) {
        unsigned i = 0;

        if (*letter == 'w') {
            what = rig_wait(r);
            continue;
        }
        while (!strchr(steps[i].letters, *letter)) {
            g_assert_cmpuint(++i, <, G_N_ELEMENTS(steps));
        }
        steps[i].step(r, *letter);
    }
    return what;
}

#define STEPS(_name, _program) \
    { .name = _name, .run = run_program, .program = _program }

static const Case cases[] = {
    STEPS("in order", "Srw"),
    STEPS("twice", "SrwSrw"),
    STEPS("request before driver-ok", "Irow"),
    STEPS("request before driver-ok, kick after it", "Ipokw"),
    STEPS("request before driver-ok, no kick", "Ipow"),
    STEPS("no acknowledge", "0dgfqeorw"),
    STEPS("no driver bit", "0agfqeorw"),
    STEPS("no features-ok", "0adgqeorw"),
    STEPS("nothing but driver-ok", "0orw"),
    STEPS("driver before acknowledge", "0dagfqeorw"),
    STEPS("features after features-ok", "0adfgqeorw"),
    STEPS("features after driver-ok", "0adfqeogrw"),
    STEPS("features never", "0adfqeorw"),
    STEPS("queue before features", "0adqegforw"),
    STEPS("queue before acknowledge", "0qeadgforw"),
    STEPS("queue after driver-ok", "0adgfoqerw"),
    STEPS("queue after driver-ok, then a reset", "0adgfoqe0"),
    STEPS("queue after driver-ok, then a stop", "0adgfoqescw"),
    STEPS("queue after driver-ok, request, reset", "0adgfoqer0"),
    STEPS("queue after driver-ok, driver-ok again", "0adgfoqeuorw"),
    STEPS("only the other queue", "0adgfjqejorw"),
    STEPS("only this queue", "0adgfqeorw"),
    STEPS("the other queue late", "0adgfqeojqejrw"),
    STEPS("the other queue late, then a reset", "0adgfqeojqe0"),
    STEPS("no queue", "0adgfok"),
    STEPS("no queue, then a reset", "0adgfo0"),
    STEPS("no queue, and a stop", "0adgfosc"),
    STEPS("queue set up, not enabled", "0adgfqorw"),
    STEPS("queue enabled, not set up", "0adgfeork"),
    STEPS("queue enabled twice", "0adgfqeeorw"),
    STEPS("queue enabled with 2", "0adgfqEorw"),
    STEPS("queue disabled before driver-ok", "0adgfqevorw"),
    STEPS("queue disabled while it runs", "Svrw"),
    STEPS("queue disabled and enabled while it runs", "Svqerw"),
    STEPS("queue set up while it runs", "Srwqrw"),
    STEPS("queue set up and enabled while it runs", "Srwqerw"),
    STEPS("size 0", "0adgfqzeorw"),
    STEPS("size 0 while it runs", "Szrw"),
    STEPS("size 0 while it runs, then a reset", "Szr0"),
    STEPS("size 3", "0adgfqyeok"),
    STEPS("size 3 while it runs", "Syk"),
    STEPS("size 32768", "0adgfqYeok"),
    STEPS("size 32768 while it runs", "SYk"),
    STEPS("a queue that is not there", "Itorw"),
    STEPS("a queue that is not there, running", "Strw"),
    STEPS("all features", "0adGfqeok"),
    STEPS("all features that could be", "0adHfqeok"),
    STEPS("no features", "0adZfqeok"),
    STEPS("features while it runs", "SGrw"),
    STEPS("no features while it runs", "SZrw"),
    STEPS("all features that could be, running", "SHrw"),
    STEPS("features and features-ok while it runs", "SZfrw"),
    STEPS("driver-ok twice", "Soorw"),
    STEPS("driver-ok withdrawn", "Suk"),
    STEPS("driver-ok withdrawn and given", "Suorw"),
    STEPS("driver-ok withdrawn under a request", "Sruow"),
    STEPS("driver-ok flutters", "Suououourw"),
    STEPS("driver-ok flutters under requests", "Sruoruoruow"),
    STEPS("failed", "0adgfqexk"),
    STEPS("failed while it runs", "Sxrw"),
    STEPS("failed, then a reset", "Sx0Srw"),
    STEPS("driver says needs-reset", "SNrw"),
    STEPS("reset at once", "S0"),
    STEPS("reset twice", "S00"),
    STEPS("reset before all else", "0"),
    STEPS("reset after acknowledge", "0a0"),
    STEPS("reset after features-ok", "0adgf0"),
    STEPS("reset of set up queues", "I0"),
    STEPS("reset under a request", "Sr0"),
    STEPS("reset under a request without kick", "Sp0"),
    STEPS("reset, and a kick", "S0k"),
    STEPS("reset, driver-ok and nothing else", "S0orw"),
    STEPS("reset, the same queues enabled", "S0adgfeork"),
    STEPS("kick of nothing", "Sk"),
    STEPS("many kicks of nothing", "Skkkkkkkk"),
    STEPS("kick before driver-ok", "Ikorw"),
    STEPS("kick of a queue that is not set up", "0adgfk"),
    STEPS("kick of the other queue", "Sjkjrw"),
    STEPS("a request without kick", "Sp"),
    STEPS("two requests, one kick", "Sprw"),
    STEPS("loop", "Slw"),
    STEPS("loop, then a proper request", "Slwrw"),
    STEPS("loop, then a reset", "Slw0Srw"),
    STEPS("loop, reset at once", "Sl0"),
    STEPS("loop without driver-ok", "Il"),
    STEPS("loop, and driver-ok withdrawn", "Slwu"),
    STEPS("loop, driver-ok withdrawn and given", "Slwuow"),
    STEPS("loop, and a stop", "Slwsc"),
    STEPS("loop in a stopped machine", "Sslcw"),
    STEPS("loop and needs-reset by the driver", "SlwN"),
    STEPS("stop and cont", "Sscrw"),
    STEPS("stop and cont under a request", "Srscw"),
    STEPS("request while stopped", "Ssrcw"),
    STEPS("stop before driver-ok", "Iscorw"),
    STEPS("driver-ok while stopped", "Isocrw"),
    STEPS("reset while stopped", "Ss0c"),
    STEPS("initialized while stopped", "sScrw"),
    STEPS("queue enabled while stopped, then a reset", "0adgfosqec0"),
    STEPS("no bus mastering", "Sbrk"),
    STEPS("no bus mastering for a while", "SbBrw"),
    STEPS("no bus mastering at the start", "bIorB"),
    STEPS("no bus mastering, and a reset", "Sb0B"),
    STEPS("no registers for a while", "SmMrw"),
    STEPS("no registers under a request", "SrmMw"),
};

const CaseTable conformance_steps = { "steps", cases, G_N_ELEMENTS(cases) };
