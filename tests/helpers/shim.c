/* Lets the n-th call on a file of one folder fail once, as a failing disk or a busy server would.
 *
 * Loaded with LD_PRELOAD it changes nothing until shim_arm() is called. Calls are counted for this
 * process and those that it forks. What failed, or every call when n is 0, is appended to a report.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char prefix[PATH_MAX], report[PATH_MAX];
static regex_t pattern;
static long wanted, *count;
static int code, armed;

void shim_arm(const char *folder, const char *regex, long n, int error, const char *file) {
  snprintf(prefix, sizeof prefix, "%s", folder);
  snprintf(report, sizeof report, "%s", file);
  regcomp(&pattern, regex, REG_EXTENDED | REG_NOSUB);
  wanted = n;
  code = error;
  count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  armed = 1;
}

static void say(const char *name, const char *path) {
  char line[PATH_MAX + 64];
  int length = snprintf(line, sizeof line, "%s %s\n", name, path);
  long file = syscall(SYS_openat, AT_FDCWD, report, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (file >= 0) {
    syscall(SYS_write, file, line, length);
    syscall(SYS_close, file);
  }
}

/* Whether this call, on the path below the open folder, is the one that is to fail. */
static int fails_at(const char *name, int folder, const char *path) {
  char full[2 * PATH_MAX], place[64];
  long length = 0;
  int before = errno;
  if (!armed) return 0;
  if (!path || path[0] != '/') {
    if (folder == AT_FDCWD)
      snprintf(place, sizeof place, "/proc/self/cwd");
    else
      snprintf(place, sizeof place, "/proc/self/fd/%d", folder);
    length = syscall(SYS_readlinkat, AT_FDCWD, place, full, PATH_MAX);
    errno = before;
    if (length <= 0) return 0;
    if (path && path[0]) full[length++] = '/';
  }
  snprintf(full + length, PATH_MAX, "%s", path ? path : "");
  if (strncmp(full, prefix, strlen(prefix)) || regexec(&pattern, full, 0, NULL, 0)) return 0;
  errno = before;
  long number = __sync_add_and_fetch(count, 1);
  if (wanted == 0 || number == wanted) say(name, full + strlen(prefix));
  if (wanted == 0 || number != wanted) return 0;
  errno = code;
  return 1;
}

#define REAL(type, name, ...)                         \
  static type (*real)(__VA_ARGS__);                   \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define ON_PATH(type, bad, name, declared, given, ...) \
  type name declared {                                 \
    REAL(type, name, __VA_ARGS__);                     \
    return fails_at(#name, AT_FDCWD, path) ? bad : real given; \
  }
#define ON_PLACE(type, bad, name, declared, given, ...) \
  type name declared {                                  \
    REAL(type, name, __VA_ARGS__);                      \
    return fails_at(#name, folder, path) ? bad : real given; \
  }
#define ON_FILE(type, bad, name, declared, given, ...) \
  type name declared {                                 \
    REAL(type, name, __VA_ARGS__);                     \
    return fails_at(#name, file, NULL) ? bad : real given; \
  }
#define ON_STREAM(type, bad, name, declared, given, ...) \
  type name declared {                                   \
    REAL(type, name, __VA_ARGS__);                       \
    return fails_at(#name, fileno(stream), NULL) ? bad : real given; \
  }

#define OPEN(name)                                              \
  int name(const char *path, int flags, ...) {                  \
    REAL(int, name, const char *, int, ...);                    \
    va_list rest;                                               \
    va_start(rest, flags);                                      \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest);                                               \
    return fails_at(#name, AT_FDCWD, path) ? -1 : real(path, flags, mode); \
  }
#define OPENAT(name)                                            \
  int name(int folder, const char *path, int flags, ...) {      \
    REAL(int, name, int, const char *, int, ...);               \
    va_list rest;                                               \
    va_start(rest, flags);                                      \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest);                                               \
    return fails_at(#name, folder, path) ? -1 : real(folder, path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define STAT(name, kind) \
  ON_PATH(int, -1, name, (const char *path, struct kind *found), (path, found), const char *, struct kind *)
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
#define FSTAT(name, kind) \
  ON_FILE(int, -1, name, (int file, struct kind *found), (file, found), int, struct kind *)
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)
#define FSTATAT(name, kind)                                                          \
  ON_PLACE(int, -1, name, (int folder, const char *path, struct kind *found, int flags), \
           (folder, path, found, flags), int, const char *, struct kind *, int)
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)
ON_PLACE(int, -1, statx,
         (int folder, const char *path, int flags, unsigned mask, struct statx *found),
         (folder, path, flags, mask, found), int, const char *, int, unsigned, struct statx *)

ON_PATH(int, -1, mkdir, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
ON_PATH(int, -1, rmdir, (const char *path), (path), const char *)
ON_PATH(int, -1, unlink, (const char *path), (path), const char *)
ON_PLACE(int, -1, unlinkat, (int folder, const char *path, int flags), (folder, path, flags), int,
         const char *, int)
ON_PATH(int, -1, rename, (const char *path, const char *to), (path, to), const char *, const char *)
ON_PATH(int, -1, link, (const char *path, const char *to), (path, to), const char *, const char *)
ON_PLACE(int, -1, linkat, (int folder, const char *path, int there, const char *to, int flags),
         (folder, path, there, to, flags), int, const char *, int, const char *, int)
ON_PATH(int, -1, chmod, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
ON_PATH(DIR *, NULL, opendir, (const char *path), (path), const char *)
ON_FILE(DIR *, NULL, fdopendir, (int file), (file), int)
ON_PATH(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode), const char *,
        const char *)
ON_PATH(FILE *, NULL, fopen64, (const char *path, const char *mode), (path, mode), const char *,
        const char *)

ON_FILE(ssize_t, -1, read, (int file, void *into, size_t most), (file, into, most), int, void *,
        size_t)
ON_FILE(ssize_t, -1, pread, (int file, void *into, size_t most, off_t at), (file, into, most, at),
        int, void *, size_t, off_t)
ON_FILE(ssize_t, -1, pread64, (int file, void *into, size_t most, off64_t at),
        (file, into, most, at), int, void *, size_t, off64_t)
ON_FILE(ssize_t, -1, write, (int file, const void *from, size_t size), (file, from, size), int,
        const void *, size_t)
ON_FILE(ssize_t, -1, pwrite, (int file, const void *from, size_t size, off_t at),
        (file, from, size, at), int, const void *, size_t, off_t)
ON_FILE(ssize_t, -1, pwrite64, (int file, const void *from, size_t size, off64_t at),
        (file, from, size, at), int, const void *, size_t, off64_t)
ON_FILE(ssize_t, -1, sendfile, (int to, int file, off_t *at, size_t size), (to, file, at, size),
        int, int, off_t *, size_t)
ON_FILE(ssize_t, -1, sendfile64, (int to, int file, off64_t *at, size_t size),
        (to, file, at, size), int, int, off64_t *, size_t)
ON_FILE(int, -1, fsync, (int file), (file), int)
ON_FILE(int, -1, flock, (int file, int how), (file, how), int, int)
ON_FILE(int, -1, ftruncate, (int file, off_t size), (file, size), int, off_t)
ON_FILE(int, -1, ftruncate64, (int file, off64_t size), (file, size), int, off64_t)

ON_STREAM(size_t, 0, fread, (void *into, size_t size, size_t items, FILE *stream),
          (into, size, items, stream), void *, size_t, size_t, FILE *)
ON_STREAM(size_t, 0, fwrite, (const void *from, size_t size, size_t items, FILE *stream),
          (from, size, items, stream), const void *, size_t, size_t, FILE *)

/* A file is closed even when that fails. */
int close(int file) {
  REAL(int, close, int);
  int fails = fails_at("close", file, NULL), done = real(file);
  if (fails) errno = code;
  return fails ? -1 : done;
}

struct dirent64 *readdir64(DIR *folder) {
  REAL(struct dirent64 *, readdir64, DIR *);
  return fails_at("readdir64", dirfd(folder), NULL) ? NULL : real(folder);
}

void *mmap64(void *at, size_t size, int protection, int flags, int file, off64_t offset) {
  REAL(void *, mmap64, void *, size_t, int, int, int, off64_t);
  if (file >= 0 && fails_at("mmap64", file, NULL)) return MAP_FAILED;
  return real(at, size, protection, flags, file, offset);
}
