// A micro guest as firmware: the last page of a ROM that ends at 4 GiB and has the guest's ELF file
// at its start, 128 KiB earlier (tests/integration/harness.py puts the two together). From the reset
// vector into protected mode, the guest's one segment to where it wants to be, then its PVH entry.
// The first 256 bytes are for the command line.
.set rom, 0xfffe0000
.set elf_entry, 24              // the ELF header; its first program header follows
.set segment_offset, 64 + 8
.set segment_address, 64 + 16
.set segment_size, 64 + 32

.section .text
command_line:
    .skip 256
.align 8
gdt:                            // accessed bits set: the processor cannot set them here
    .quad 0
    .quad 0x00cf93000000ffff    // 0x08: data
    .quad 0x00cf9b000000ffff    // 0x10: 32-bit code
gdt_pointer:
    .word 23
    .long gdt
.align 8
start_info:                     // struct hvm_start_info
    .long 0x336ec578, 1, 0, 0
    .long 0, 0, command_line, 0, 0, 0, memory_map, 0
    .long 1, 0
memory_map:
    .quad 0, 64 << 20
    .long 1, 0

.code16
start:
    cli
    mov $0xf000 + gdt_pointer - command_line, %bx  // in the last 64 KiB, as cs is
    lgdtl %cs:(%bx)
    mov $0x11, %eax
    mov %eax, %cr0
    ljmpl $0x10, $protected
.code32
protected:
    mov $8, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    cld
    mov rom + segment_offset, %esi
    add $rom, %esi
    mov rom + segment_address, %edi
    mov rom + segment_size, %ecx
    rep movsb
    mov $start_info, %ebx
    mov rom + elf_entry, %eax
    jmp *%eax

.org 0xff0
.code16
    jmp start
.org 0x1000
.section .note.GNU-stack, "", @progbits
