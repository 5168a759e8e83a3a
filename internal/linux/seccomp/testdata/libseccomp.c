/*
 * What libseccomp makes of a profile, for comparison.
 *
 * libseccomp names ARCH...   reads names of system calls, one a line, and prints "ARCH NAME NUMBER" for each
 * libseccomp filter          reads a profile and writes its program in the kernel's form:
 *
 *   default ACTION
 *   arch TOKEN                        (hexadecimal, besides the native one)
 *   rule NAME ACTION [INDEX OP A B]...  (numbers in hexadecimal, OP as enum scmp_compare)
 */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int names(int argc, char **argv)
{
	char line[256];

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		for (int i = 2; i < argc; i++) {
			int nr = seccomp_syscall_resolve_name_arch(strtoul(argv[i], NULL, 16), line);
			if (nr != __NR_SCMP_ERROR)
				printf("%s %s %d\n", argv[i], line, nr);
		}
	}
	return 0;
}

static int die(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	return 1;
}

static int filter(void)
{
	static char line[4096];
	scmp_filter_ctx ctx = NULL;
	int rc;

	while (fgets(line, sizeof(line), stdin)) {
		char *word = strtok(line, " \n");

		if (strcmp(word, "default") == 0) {
			ctx = seccomp_init(strtoul(strtok(NULL, " \n"), NULL, 16));
		} else if (strcmp(word, "arch") == 0) {
			rc = seccomp_arch_add(ctx, strtoul(strtok(NULL, " \n"), NULL, 16));
			if (rc)
				return die("arch", rc);
		} else if (strcmp(word, "rule") == 0) {
			char *name = strtok(NULL, " \n");
			unsigned action = strtoul(strtok(NULL, " \n"), NULL, 16);
			struct scmp_arg_cmp args[6];
			unsigned count = 0;
			char *index;

			while ((index = strtok(NULL, " \n"))) {
				args[count].arg = strtoul(index, NULL, 16);
				args[count].op = strtoul(strtok(NULL, " \n"), NULL, 16);
				args[count].datum_a = strtoull(strtok(NULL, " \n"), NULL, 16);
				args[count].datum_b = strtoull(strtok(NULL, " \n"), NULL, 16);
				count++;
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR)
				continue;
			rc = seccomp_rule_add_array(ctx, action, nr, count, args);
			if (rc)
				return die(name, rc);
		}
	}
	rc = seccomp_export_bpf(ctx, 1);
	return rc ? die("export", rc) : 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "names") == 0)
		return names(argc, argv);
	return filter();
}
