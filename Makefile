# SPDX-License-Identifier: Apache-2.0
# minivmm: `make help` lists the targets.

CONFIG ?= release
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

CONFIGS := release debug asan tsan
ifeq ($(filter $(CONFIG),$(CONFIGS)),)
$(error CONFIG=$(CONFIG): expected one of $(CONFIGS))
endif

B := build/$(CONFIG)
PKG_CONFIG ?= pkg-config

# Libraries, as pkg-config modules, and the Debian package that brings each.
LIBS := liburing zlib libzstd liblz4 liblzma jansson
DEBIAN_liburing := liburing-dev
DEBIAN_zlib := zlib1g-dev
DEBIAN_libzstd := libzstd-dev
DEBIAN_liblz4 := liblz4-dev
DEBIAN_liblzma := liblzma-dev
DEBIAN_jansson := libjansson-dev
DEBIAN_check := check

# Used where it is installed.
ifeq ($(shell $(PKG_CONFIG) --exists libdeflate && echo yes),yes)
LIBS += libdeflate
DEFINES += -DHAVE_LIBDEFLATE
endif

need = $(foreach lib,$(1),$(if $(shell $(PKG_CONFIG) --exists $(lib) && echo yes),,\
         $(error $(lib) is missing: install the Debian package $(DEBIAN_$(lib)), or run `scripts/setup build`)))

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
            -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wno-unused-parameter
ifeq ($(CI),true)
WARNINGS += -Werror
endif

CPPFLAGS_ALL = -I. -D_GNU_SOURCE -DMINIVMM_VERSION='"$(VERSION)"' $(DEFINES) $(CPPFLAGS)
# Those of these flags that compiler and processor know. Branch targets only: shadow stacks would
# have to be switched with the stacks of coroutines (base/co.c).
known = $(foreach flag,$(1),$(shell $(CC) -Werror $(flag) -x c -c -o /dev/null /dev/null 2>/dev/null \
          && echo $(flag)))
HARDENING := $(call known,-fstack-clash-protection -fcf-protection=branch)

CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong $(HARDENING)
CFLAGS_debug := -O0 -g3
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined \
               -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_ALL = -std=gnu11 -fPIE -pthread -fno-strict-aliasing $(WARNINGS) $(CFLAGS_$(CONFIG)) $(CFLAGS)

# Largest frames, in bytes, of what is shipped. block/ runs on the stacks of coroutines; img/ and ctl/
# on that of a whole process.
$(B)/block/%.o: FRAME_MAX := 1024
$(B)/base/%.o $(B)/net/%.o $(B)/vmm/%.o $(B)/memory/%.o $(B)/devices/%.o $(B)/boot/%.o: FRAME_MAX := 8192
$(B)/img/%.o $(B)/ctl/%.o: FRAME_MAX := 16384
frame_warning = $(if $(filter release,$(CONFIG)),$(FRAME_MAX:%=-Wframe-larger-than=%))

LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread

# A static program starts faster and needs 1 MB less per VM than one with shared libraries.
# LINK=dynamic for distributions that want it; sanitizers need it.
ifneq ($(filter $(CONFIG),asan tsan),)
LINK := dynamic
endif
LINK ?= static
ifeq ($(LINK),static)
LDFLAGS_LINK := -static-pie
LIBS_LINK = $(shell $(PKG_CONFIG) --static --libs $(LIBS))
else
LDFLAGS_LINK := -pie
LIBS_LINK = $(shell $(PKG_CONFIG) --libs $(LIBS))
endif
LDFLAGS_ALL = $(LDFLAGS_LINK) -pthread -Wl,-z,relro,-z,now $(LDFLAGS_$(CONFIG)) $(LDFLAGS)

# The modules: one archive per folder, in this order: the linker finds nothing in one that is named
# before. So it refuses what calls the wrong way, and scripts/lint-layers what includes it.
SRC_base := $(wildcard base/*.c)
SRC_block := $(wildcard block/*.c block/qcow2/*.c block/qcow2/*/*.c)
SRC_img := $(filter-out img/main.c,$(wildcard img/*.c))
SRC_ctl := $(filter-out ctl/main.c,$(wildcard ctl/*.c))
SRC_devices := $(wildcard devices/*.c devices/*/*.c)
SRC_memory := $(wildcard memory/*.c)
SRC_net := $(wildcard net/*.c)
SRC_boot := $(wildcard boot/*.c)
SRC_vmm := $(filter-out vmm/main.c,$(wildcard vmm/*.c vmm/*/*.c))
ARCHIVES := vmm boot devices memory net block base
IMG_LIBS = $(B)/libimg.a $(B)/libblock.a $(B)/libbase.a
CTL_LIBS = $(B)/libctl.a $(B)/libbase.a
PROGRAMS := minivmm minivmm-img minivmm-ctl
objects = $(patsubst %.c,$(B)/%.o,$(1))
ARCHIVE_FILES := $(ARCHIVES:%=$(B)/lib%.a)
VMM_LIBS = $(ARCHIVE_FILES)

UNIT_TESTS := $(patsubst tests/unit/%.c,%,$(sort $(shell find tests/unit -name 'test_*.c')))
# Results and tests/mutants call a unit test by its name, without the folder.
ifneq ($(words $(UNIT_TESTS)),$(words $(sort $(notdir $(UNIT_TESTS)))))
$(error two programs below tests/unit/ have the same name)
endif
# It defines functions of block/, which every program of a library with it in would get instead of
# libblock's: only these tests are linked with it.
FAKE_BLOCK := tests/lib/devices/virtio/fake_block
FAKE_BLOCK_TESTS := $(filter devices/virtio/test_virtio_blk%,$(UNIT_TESTS))
# These test another program.
CTL_TESTS := $(filter ctl/%,$(UNIT_TESTS))
TEST_LIB_SRC := $(filter-out $(FAKE_BLOCK).c,$(sort $(shell find tests/lib -name '*.c')))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
TOOLS := $(patsubst tests/tools/%.c,%,$(wildcard tests/tools/*.c))
BENCHES := $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/*.c))
GUEST_TESTS := $(patsubst tests/guest/%.c,%,$(wildcard tests/guest/test_*.c))

.PHONY: all
all: $(PROGRAMS:%=$(B)/%) $(if $(filter release,$(CONFIG)),$(PROGRAMS))

$(PROGRAMS): %: build/release/%
	ln -sf $< $@

$(B)/minivmm: $(B)/vmm/main.o $(ARCHIVE_FILES)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(VMM_LIBS) $(LIBS_LINK)

$(B)/minivmm-img: $(B)/img/main.o $(IMG_LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(IMG_LIBS) $(LIBS_LINK)

$(B)/minivmm-ctl: $(B)/ctl/main.o $(CTL_LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(CTL_LIBS) $(LIBS_LINK)

define archive
$(B)/lib$(1).a: $(call objects,$(SRC_$(1)))
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && $$(AR) rcs $$@ $$^
endef
$(foreach a,$(ARCHIVES) img ctl,$(eval $(call archive,$(a))))

# The libraries are looked for once, by the first object.
$(B)/%.o: %.c $(B)/.flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(frame_warning) -MMD -MP -c -o $@ $<

# Rebuild when compiler or flags change.
FLAGS_NOW = $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(LINK)
$(B)/.flags: FORCE
	$(call need,$(LIBS))
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || echo '$(subst ','\'',$(FLAGS_NOW))' > $@

.PHONY: FORCE
FORCE:

# ---- tests -------------------------------------------------------------------------------------

$(B)/tests/libtest.a: $(call objects,$(TEST_LIB_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# tests/lib/thread_guard.c and host_calls.c; -u, because others may have functions of these names.
wrap = -Wl,--wrap=$(1) -Wl,-u,__wrap_$(1)
wrapped := pthread_create io_uring_queue_init io_uring_submit io_uring_submit_and_wait_timeout \
    nanosleep fsync syncfs malloc_trim mmap mremap getrandom ioctl
unit_wraps := $(foreach f,$(wrapped),$(call wrap,$(f)))

test_program = $(Q)$(CC) $(filter-out -static-pie,$(LDFLAGS_ALL)) -pie -o $@ $(filter %.o,$^) \
                $(B)/tests/libtest.a

$(UNIT_TESTS:%=$(B)/tests/unit/%): $(B)/%: $(B)/%.o $(B)/tests/libtest.a $(ARCHIVE_FILES)
	$(call need,check)
	$(call say,LINK,$@)
	$(test_program) $(unit_wraps) $(VMM_LIBS) $(shell $(PKG_CONFIG) --libs $(LIBS) check)

$(FAKE_BLOCK_TESTS:%=$(B)/tests/unit/%): $(B)/$(FAKE_BLOCK).o

$(CTL_TESTS:%=$(B)/tests/unit/%): $(B)/libctl.a
$(CTL_TESTS:%=$(B)/tests/unit/%): VMM_LIBS = $(CTL_LIBS)

$(GUEST_TESTS:%=$(B)/tests/guest/%): $(B)/%: $(B)/%.o $(B)/tests/libtest.a $(ARCHIVE_FILES)
	$(call need,check)
	$(call say,LINK,$@)
	$(test_program) $(VMM_LIBS) $(shell $(PKG_CONFIG) --libs $(LIBS) check)

$(TOOLS:%=$(B)/tests/tools/%) $(BENCHES:%=$(B)/tests/bench/%): $(B)/%: $(B)/%.o \
    $(B)/tests/libtest.a $(ARCHIVE_FILES)
	$(call say,LINK,$@)
	$(test_program) $(VMM_LIBS) $(shell $(PKG_CONFIG) --libs $(LIBS))

# Fuzz targets replay their corpus here with any compiler; `make fuzz` builds them for libFuzzer.
$(FUZZERS:%=$(B)/tests/fuzz/%): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/tests/fuzz/replay.o \
    $(B)/tests/libtest.a $(B)/libimg.a $(B)/libctl.a $(ARCHIVE_FILES)
	$(call say,LINK,$@)
	$(test_program) $(B)/libimg.a $(B)/libctl.a $(VMM_LIBS) $(shell $(PKG_CONFIG) --libs $(LIBS))

.PHONY: tests
tests: $(UNIT_TESTS:%=$(B)/tests/unit/%) $(GUEST_TESTS:%=$(B)/tests/guest/%) \
       $(FUZZERS:%=$(B)/tests/fuzz/%) $(TOOLS:%=$(B)/tests/tools/%) \
       $(BENCHES:%=$(B)/tests/bench/%)

.PHONY: check-unit
check-unit: tests
	@scripts/check --config $(CONFIG) unit fuzz

.PHONY: check
check:
	@scripts/setup all
	@scripts/check

.PHONY: run
run:
	@scripts/setup build guest
	@$(MAKE) --no-print-directory all tests CONFIG=release
	@scripts/run

# Options of the scripts: `make bench BENCH="--vmm firecracker=/opt/firecracker"`.
.PHONY: bench compare
bench: all tests
	@scripts/bench $(BENCH)

compare: all tests
	@scripts/setup guest report
	@scripts/guest-image debian busybox bench net
	@compare/all $(COMPARE)

FUZZ_SECONDS ?= 60
# What programs are linked with, for scripts that link their own.
.PHONY: libs
libs:
	@echo $(LIBS)

.PHONY: fuzz
fuzz:
	@scripts/fuzz $(FUZZ_SECONDS) $(FUZZERS)

.PHONY: fuzz-coverage
fuzz-coverage:
	@scripts/fuzz-coverage

.PHONY: mutants
mutants:
	@scripts/mutants

SOAK_SECONDS ?= 600
.PHONY: soak
soak:
	@$(MAKE) --no-print-directory tests CONFIG=release
	@scripts/soak $(SOAK_SECONDS)

# ---- source care -------------------------------------------------------------------------------

C_FILES = $(shell git ls-files '*.[ch]' 2>/dev/null)
SH_FILES = $(shell git grep -lE '^\#!.*(/| )(ba)?sh' -- scripts tests compare .ci 2>/dev/null)

.PHONY: format lint
format:
	clang-format -i $(C_FILES)

# scripts/lint-circles reads the object files of a release build.
lint: compile_commands.json
	@$(MAKE) --no-print-directory all CONFIG=release
	@scripts/lint

compile_commands.json: Makefile $(filter %.c,$(C_FILES))
	@scripts/compile-commands '$(CC) $(subst ','\'',$(CPPFLAGS_ALL) $(CFLAGS_ALL))' > $@

# ---- install -----------------------------------------------------------------------------------

.PHONY: install
install: $(PROGRAMS:%=$(B)/%)
	for program in $(PROGRAMS); do \
	    install -D -m 755 $(B)/$$program $(DESTDIR)$(PREFIX)/bin/$$program && \
	    install -D -m 644 docs/$$program.1 $(DESTDIR)$(PREFIX)/share/man/man1/$$program.1 || exit 1; \
	done
	for file in img/completion/minivmm-img configs/completion/minivmm \
	    configs/completion/minivmm-ctl; do \
	    name=$${file##*/} && \
	    install -D -m 644 $$file.bash \
	        $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$name && \
	    install -D -m 644 $${file%/*}/_$$name \
	        $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$name || exit 1; \
	done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/local/,$(PREFIX)/,' configs/minivmm@.service \
	    > $(DESTDIR)$(PREFIX)/lib/systemd/system/minivmm@.service

.PHONY: clean
clean:
	rm -rf $(CONFIGS:%=build/%) $(PROGRAMS) compile_commands.json

.PHONY: help
help:
	@echo 'make                 build ./minivmm, ./minivmm-img, ./minivmm-ctl (CONFIG=release|debug|asan|tsan, LINK=static|dynamic, V=1)'
	@echo 'make run             set up, build, prepare a Debian guest once, boot it on this terminal'
	@echo 'make check           set up and run all tests'
	@echo 'make check-unit      unit tests and fuzz corpora only: two minutes, no KVM, no root'
	@echo 'make bench           measure minivmm beside its peers, in minutes; BENCH="--vmm NAME=PATH"'
	@echo 'make compare         the whole study, in a day, and its report; COMPARE="--parts disk --seconds 2"'
	@echo 'make fuzz            run the fuzzers, FUZZ_SECONDS=60 each'
	@echo 'make fuzz-coverage   how much of each source file the corpora run'
	@echo 'make soak            random tests of the disk engine with fresh seeds, SOAK_SECONDS=600'
	@echo 'make mutants         put deliberate faults into a copy: the tests have to notice each'
	@echo 'make lint, format    static checks; reformat the source'
	@echo 'make install         DESTDIR= PREFIX=/usr/local'
	@echo 'make clean           remove what was built; build/guest and build/host stay'

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = @$(if $(filter 1,$(V)),:,printf '  %-5s %s\n' $(1) $(2))

-include $(shell find $(B) -name '*.d' 2>/dev/null)
