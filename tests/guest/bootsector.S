/*
 * Boot sector that reads with the BIOS's own driver and says what it found.
 *
 * Reads SECTORS sectors from LBA 1 on, 32 KiB a request, adds up their 32-bit
 * words and compares the sum with the one that whoever made the disk stored at
 * the label "wanted" (offset 4 in this sector).  Speaks on the first serial
 * port.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define SECTORS_A_READ  64
#define READS           128
#define BUFFER_SEGMENT  0x1000

        .code16
        .globl _start
_start:
        jmp     begin
        .org    4
wanted: .long   0

begin:
        cli
        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %ss
        mov     $0x7c00, %sp
        cld
        sti
        mov     %dl, drive
        mov     $hello, %si
        call    say
        mov     $READS, %cx
        xor     %ebx, %ebx              /* the sum */

next_read:
        push    %cx
        mov     $packet, %si
        mov     drive, %dl
        mov     $0x42, %ah
        push    %ebx
        int     $0x13
        pop     %ebx
        jc      failed
        addl    $SECTORS_A_READ, packet_lba

        mov     $BUFFER_SEGMENT, %ax
        mov     %ax, %es
        xor     %di, %di
        mov     $(SECTORS_A_READ * 128), %cx
add_word:
        addl    %es:(%di), %ebx
        add     $4, %di
        loop    add_word
        pop     %cx
        loop    next_read

        mov     $wrong, %si
        cmp     wanted, %ebx
        jne     finish
        mov     $right, %si
finish:
        call    say
halt:
        hlt
        jmp     halt
failed:
        mov     $error, %si
        jmp     finish

/* Write the string at %si to the serial port. */
say:
        lodsb
        test    %al, %al
        jz      said
        mov     %al, %ah
        mov     $0x3fd, %dx
wait_port:
        inb     %dx, %al
        test    $0x20, %al
        jz      wait_port
        mov     $0x3f8, %dx
        mov     %ah, %al
        outb    %al, %dx
        jmp     say
said:
        ret

hello:  .asciz  "BOOT from the disk\r\n"
right:  .asciz  "RESULT ok\r\n"
wrong:  .asciz  "RESULT fail wrong sum\r\n"
error:  .asciz  "RESULT fail read error\r\n"
drive:  .byte   0
        .balign 4
packet: .byte   16, 0
        .word   SECTORS_A_READ
        .word   0, BUFFER_SEGMENT
packet_lba:
        .long   1, 0

        .org    510
        .word   0xaa55
