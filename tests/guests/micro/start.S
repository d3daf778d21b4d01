// From the PVH entry (32-bit, paging off, ebx = struct hvm_start_info) to main() in long mode with the
// first 4 GiB mapped one to one. Writes '>' to COM1 before anything else: the guest's first byte.
// Application processors come in through ap_trampoline, copied to 0x8000.

.section .note.Xen, "a", @note
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

.section .text
.code32
.globl pvh_entry
pvh_entry:
    mov $0x3f8, %dx
    mov $'>', %al
    outb %al, %dx
    mov $0xff, %al              // the 8259s would deliver at vector 0
    outb %al, $0x21
    outb %al, $0xa1
    mov %ebx, start_info
    mov $boot_stack_end, %esp

    movl $(pdpt + 3), pml4
    mov $pdpt, %edi
    mov $(page_directories + 3), %eax
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    mov $page_directories, %edi
    mov $0x83, %eax             // 2 MiB pages: present, writable, large
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 2b
    call enter_long_mode
    ljmpl $8, $bsp_long

enter_long_mode:
    mov $pml4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x620, %eax             // PAE, OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax             // EFER.LME
    wrmsr
    mov $0x80050033, %eax
    mov %eax, %cr0
    lgdtl gdt_pointer
    ret

.code64
bsp_long:
    call load_segments
    mov $boot_stack_end, %rsp
    call main
    call shut_down

load_segments:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    ret

ap_long:
    mov ap_stack, %rsp
    call load_segments
    call ap_main
1:  cli
    hlt
    jmp 1b

.code16
.globl ap_trampoline, ap_trampoline_end
ap_trampoline:                  // runs at 0x8000: cs = 0x800, ip = 0
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 0x8000 + (ap_gdt_pointer - ap_trampoline)
    mov $0x11, %eax
    mov %eax, %cr0
    ljmpl $0x18, $(0x8000 + (ap_protected - ap_trampoline))
.code32
ap_protected:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $ap_boot_stack_end, %esp
    mov $enter_long_mode, %eax
    call *%eax
    ljmpl $8, $ap_long
.align 8
ap_gdt_pointer:
    .word 31
    .long gdt
ap_trampoline_end:

// Interrupt entry points. Exceptions 0-31 report and stop; vectors 32-255 count and acknowledge.
.code64
.globl exception_entries, interrupt_entries
.align 16
exception_entries:
    .set vector, 0
    .rept 32
    .align 16
    push $vector
    jmp exception_common
    .set vector, vector + 1
    .endr
exception_common:
    mov %rsp, %rdi
    call report_exception
1:  cli
    hlt
    jmp 1b
.align 16
interrupt_entries:
    .set vector, 32
    .rept 224
    .align 16
    push %rax
    mov $vector, %eax
    jmp interrupt_common
    .set vector, vector + 1
    .endr
interrupt_common:
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov %eax, %edi
    cld
    call handle_interrupt
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    iretq

.section .data
.align 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    // 0x08: 64-bit code
    .quad 0x00cf93000000ffff    // 0x10: data
    .quad 0x00cf9b000000ffff    // 0x18: 32-bit code
gdt_pointer:
    .word 31
    .long gdt
.globl start_info, ap_stack
start_info: .long 0
.align 8
ap_stack: .quad 0

.section .bss
.align 4096
.globl pml4, pdpt
pml4: .skip 4096
pdpt: .skip 4096
page_directories: .skip 4 * 4096
.skip 16384
boot_stack_end:
.skip 512
ap_boot_stack_end:

.section .note.GNU-stack, "", @progbits
