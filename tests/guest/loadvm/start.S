/*
 * From the loader's 32-bit code, or from a SIPI's 16-bit code, to C in 64 bits.
 *
 * QEMU finds start32 through the note (PVH: 32 bits, flat segments, no paging,
 * the address of the start info in EBX).  Every processor comes through
 * enter64 with its number in EBP and has the same page tables: 4 GiB one to
 * one, in pages of 2 MiB.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define CODE32 0x08
#define CODE64 0x10
#define DATA 0x18
#define STACK_SIZE 8192
#define MAX_CPUS 16

#define NT_PHYS32_ENTRY 18
#define PAGE_TABLE 0x03          /* present, writable */
#define PAGE_LARGE 0x83          /* the same, 2 MiB */
#define EFER 0xc0000080
#define EFER_LME 0x100
#define CR4_PAE 0x20
#define CR0_PG_PE 0x80000001
#define APIC_EOI 0xfee000b0

    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, NT_PHYS32_ENTRY
    .asciz "Xen"
    .quad start32

    .text
    .code32
    .globl start32
start32:
    cli
    cld
    movl %ebx, start_info

    movl $page_dirs, %edi
    movl $PAGE_LARGE, %eax
    movl $(4 * 512), %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b

    movl $page_pointers, %edi
    movl $(page_dirs + PAGE_TABLE), %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 1b

    movl $(page_pointers + PAGE_TABLE), page_map
    xorl %ebp, %ebp
    jmp enter64

ap32:
    movw $DATA, %ax
    movw %ax, %ds
    movl $1, %ebp
    lock xaddl %ebp, next_cpu
    cmpl $MAX_CPUS, %ebp
    jb enter64
1:  hlt
    jmp 1b

enter64:
    lgdtl gdt_pointer
    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $page_map, %eax
    movl %eax, %cr3
    movl $EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl %cr0, %eax
    orl $CR0_PG_PE, %eax
    movl %eax, %cr0
    ljmpl $CODE64, $in64

    .code64
in64:
    movw $DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    leal 1(%ebp), %eax
    imull $STACK_SIZE, %eax, %eax
    leaq stacks(%rax), %rsp
    movl %ebp, %edi
    call cpu_entry
1:  hlt
    jmp 1b

/* Copied to TRAMPOLINE (cpu.c), where a SIPI starts the others. */
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt_pointer - trampoline
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $ap32
    .balign 4
trampoline_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:

    .code64
/* Its only purpose is to end a sleep. */
    .globl irq_entry
irq_entry:
    pushq %rax
    lock incq irqs_taken
    movl $APIC_EOI, %eax
    movl $0, (%rax)
    popq %rax
    iretq

/* Exceptions: the processor pushes an error code for some of them. */
    .macro fault number
    .balign 16
    .if !((1 << \number) & 0x60227d00)
    pushq $0
    .endif
    pushq $\number
    jmp fault_common
    .endm

    .balign 16
    .globl fault_entries
fault_entries:
    .altmacro
    .set number, 0
    .rept 32
    fault %number
    .set number, number + 1
    .endr

fault_common:
    popq %rdi
    popq %rsi
    popq %rdx
    call cpu_fault

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff     /* CODE32 */
    .quad 0x00af9b000000ffff     /* CODE64 */
    .quad 0x00cf93000000ffff     /* DATA */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .balign 4
    .globl start_info, next_cpu
start_info:
    .long 0
next_cpu:
    .long 1

    .bss
    .balign 4096
page_map:
    .skip 4096
page_pointers:
    .skip 4096
page_dirs:
    .skip 4 * 4096
stacks:
    .skip MAX_CPUS * STACK_SIZE
    .section .note.GNU-stack, "", @progbits
