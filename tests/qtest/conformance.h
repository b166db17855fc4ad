/*
 * What a guest may do to a virtio device, and what becomes of it.
 *
 * One case does one odd thing to one device.  The same case is tried on a
 * vhost-user device with memory isolation, on the same device without, and on
 * QEMU's own device of that type, and says in a word what it saw.  What each
 * said before is in docs/devel/vhost-user-memory-isolation-conformance.rst.inc.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_CONFORMANCE_H
#define TESTS_QTEST_CONFORMANCE_H

#include "libqos/pci-pc.h"
#include "isolation-driver.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"

/** Outcomes: what a case says. */
#define WORKS "works"           /* the request was completed */
#define STOPPED "stopped"       /* the device wants to be reset */
#define IDLE "idle"             /* nothing happens, and nothing is wrong */
#define DIFFERS "differs"       /* a register is not what it should be */
#define BACKEND_ENDS "backend ends"
#define LOST ", lost"           /* behind one: no reset brings it back */
#define QEMU_ENDS "QEMU ends"
#define HANGS "hangs"
#define ABSENT "-"              /* this device has nothing of the kind */

#define RIG_QUEUES 4
#define RIG_QUEUE_SIZE 16

typedef enum Mode { MODE_ON, MODE_OFF, MODE_INSIDE, MODE__MAX } Mode;

typedef struct Rig Rig;

/**
 * Kind - a type of device
 * @vhost: "-device" and what belongs to it, with "%s" for the properties of
 *     isolation; the connection's chardev is "c"
 * @inside: QEMU's own device, or NULL
 * @backend: variable of the environment with the backend's command, in which
 *     "{socket}" stands for the socket
 * @num_queues: that it has
 * @queue: the one that takes requests
 * @legacy: it has the interface of virtio 0.9
 * @reconnects: it waits for a connection, and notices a new one
 * @request: fill @descs with a proper request and return how many
 * @good: was it answered as it should be?
 */
typedef struct Kind {
    const char *name;
    const char *vhost;
    const char *inside;
    const char *backend;
    unsigned num_queues;
    unsigned queue;
    bool legacy;
    bool reconnects;
    unsigned (*request)(Rig *r, GuestDesc *descs);
    bool (*good)(Rig *r);
} Kind;

extern const Kind conformance_kinds[];
extern const unsigned conformance_num_kinds;

/**
 * Rig - a machine with one device
 * @dir: for the backend's socket
 * @expected: what the case said before, or NULL
 * @current: the queue that registers are about
 * @asked: requests that were offered and not seen completed
 */
struct Rig {
    const Kind *kind;
    Mode mode;
    bool packed;
    const char *dir;
    const char *expected;
    pid_t backend;
    QTestState *qts;
    QPCIBus *bus;
    QVirtioPCIDevice pci;
    QPCIBar legacy;
    GuestQueue queues[RIG_QUEUES];
    unsigned current;
    unsigned asked;
};

/** Places for a descriptor, a table or a ring. */
typedef enum Where {
    WHERE_NOWHERE,              /* no memory at all */
    WHERE_END,                  /* the last bytes of RAM */
    WHERE_MAX,                  /* the last bytes that there can be */
    WHERE_DEVICE,               /* the device's own registers */
    WHERE_ROM,
    WHERE_HOLE,                 /* the screen of a PC */
    WHERE_HIGH,                 /* beyond what a processor can address */
} Where;

/**
 * Case - one odd thing
 * @run: does it.  Returns what it saw; NULL: a request is out, so wait for it
 * @program: for @run
 * @arg: for @run
 * @split, @packed: only for rings of that format
 */
typedef struct Case {
    const char *name;
    const char *(*run)(Rig *r, const struct Case *c);
    const char *program;
    uint64_t arg;
    bool split;
    bool packed;
} Case;

typedef struct CaseTable {
    const char *name;
    const Case *cases;
    unsigned num;
} CaseTable;

extern const CaseTable conformance_registers, conformance_legacy,
                       conformance_steps, conformance_chains,
                       conformance_requests, conformance_rings;

/** rig_start - the machine; false: this QEMU or machine has no such thing */
bool rig_start(Rig *r);
void rig_end(Rig *r);
/** Another backend, where the last one listened. */
bool rig_start_backend(Rig *r);
/** Whether the backend, if there is one, still runs. */
bool rig_backend_lives(Rig *r);
uint64_t rig_where(Rig *r, Where where);

/* Registers of the modern interface. */
#define COMMON(field) offsetof(struct virtio_pci_common_cfg, field)
uint8_t rig_read8(Rig *r, size_t offset);
void rig_write8(Rig *r, size_t offset, uint8_t value);
uint32_t rig_read32(Rig *r, size_t offset);
void rig_write32(Rig *r, size_t offset, uint32_t value);

uint8_t rig_status(Rig *r);
void rig_set_status(Rig *r, uint8_t status);
uint64_t rig_offered(Rig *r);
void rig_accept(Rig *r, uint64_t features);
/** What an ordinary driver accepts. */
uint64_t rig_wanted(Rig *r);

/** Program queue @n with a new, empty ring; rig_enable() follows. */
void rig_set_up_queue(Rig *r, unsigned n);
void rig_enable(Rig *r, unsigned n, uint16_t value);
/** All that a driver does, as far as DRIVER_OK. */
void rig_init(Rig *r);

GuestQueue *rig_queue(Rig *r);
/** Guest address of @offset in memory that requests are made of. */
uint64_t rig_data(Rig *r, uint64_t offset);
/** Where an indirect table goes. */
uint64_t rig_table(Rig *r);
/** Offer a proper request. */
void rig_offer(Rig *r);
/** Offer the first byte of one. */
void rig_offer_one_byte(Rig *r);
/** Wait for what was offered, or for an end of it. */
const char *rig_wait(Rig *r);
/** Reset, start, and a proper request: whether that is answered. */
bool rig_recovers(Rig *r);

#endif /* TESTS_QTEST_CONFORMANCE_H */
