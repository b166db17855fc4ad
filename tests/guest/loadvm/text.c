/*
 * The serial port, and how the VM ends.
 *
 * Nothing is buffered and nothing waits for an interrupt: text is rare, and
 * none is printed while requests are measured.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdarg.h>

#include "machine.h"

#define COM1 0x3f8
#define LINE_STATUS (COM1 + 5)
#define INTERRUPTS (COM1 + 1)
#define INTERRUPT_READ 0x01
#define CAN_READ 0x01
#define CAN_WRITE 0x20

/* Where SeaBIOS puts the power management block of both of QEMU's PCs. */
#define PM1A_CONTROL 0x604
#define SLEEP_ENABLE 0x2000

static void put_char(char c)
{
    if (c == '\n') {
        put_char('\r');
    }
    while (!(inb(LINE_STATUS) & CAN_WRITE)) {
        ;
    }
    outb(COM1, c);
}

static void put_text(const char *text)
{
    while (*text) {
        put_char(*text++);
    }
}

static void put_number(uint64_t value, unsigned base)
{
    char digits[24];
    unsigned n = sizeof(digits);

    digits[--n] = '\0';
    do {
        digits[--n] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    put_text(digits + n);
}

/* One conversion; returns its last character. */
static const char *convert(const char *format, va_list *args)
{
    bool is_long = *format == 'l';

    if (is_long) {
        format++;
    }
    switch (*format) {
    case 's':
        put_text(va_arg(*args, const char *));
        break;
    case 'c':
        put_char(va_arg(*args, int));
        break;
    case 'u':
    case 'x':
        put_number(is_long ? va_arg(*args, uint64_t)
                           : va_arg(*args, uint32_t),
                   *format == 'x' ? 16 : 10);
        break;
    default:
        put_char(*format);
        break;
    }
    return format;
}

static void vsay(const char *format, va_list *args)
{
    for (; *format; format++) {
        if (*format == '%') {
            format = convert(format + 1, args);
        } else {
            put_char(*format);
        }
    }
}

void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsay(format, &args);
    va_end(args);
}

void die(const char *format, ...)
{
    va_list args;

    put_text("LOADVM fatal: ");
    va_start(args, format);
    vsay(format, &args);
    va_end(args);
    put_char('\n');
    power_off();
}

void hear_line(char *line, size_t size)
{
    size_t n = 0;

    outb(INTERRUPTS, INTERRUPT_READ);
    for (;;) {
        while (!(inb(LINE_STATUS) & CAN_READ)) {
            cpu_sleep();
        }
        char c = inb(COM1);

        if (c == '\n') {
            break;
        }
        if (c != '\r' && n + 1 < size) {
            line[n++] = c;
        }
    }
    line[n] = '\0';
    outb(INTERRUPTS, 0);
}

void power_off(void)
{
    static const struct {
        uint16_t size;
        uint64_t base;
    } __attribute__((packed)) no_idt;

    outw(PM1A_CONTROL, SLEEP_ENABLE);
    /* Another firmware, or none: a triple fault ends QEMU with -no-reboot. */
    asm volatile("lidt %0; int3" :: "m"(no_idt));
    __builtin_unreachable();
}

bool text_equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

void *memcpy(void *to, const void *from, size_t size)
{
    void *at = to;

    asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) :: "memory");
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    void *at = to;

    asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
    return to;
}
