# What PostgreSQL's own tests of pg_dump create: prints the hash %tests of the file that is named
# as JSON, in the order of creation. The file stays as PostgreSQL ships it.
use strict;
use warnings;
use JSON::PP;

our (%tests, %full_runs, %dump_test_schema_runs);
open my $in, '<', $ARGV[0] or die "$ARGV[0]: $!";
my $text = do { local $/; <$in> };
my ($hash) = $text =~ /^my (%tests = \(.*?)^#{20}/ms or die "no %tests in $ARGV[0]";
{
	no strict;
	no warnings;
	our ($supports_icu, $supports_gzip, $supports_lz4, $supports_zstd, $tempdir) = (1) x 5;
	eval "$hash\n;1" or die $@;
}
my @created = sort {
	($tests{$a}{create_order} // 1e9) <=> ($tests{$b}{create_order} // 1e9) or $a cmp $b
} grep { $tests{$_}{create_sql} } keys %tests;
print JSON::PP->new->canonical->utf8->encode([
	map {
		{
			name => $_,
			sql => $tests{$_}{create_sql},
			database => $tests{$_}{database} // 'postgres',
			icu => $tests{$_}{icu} ? JSON::PP::true : JSON::PP::false,
		}
	} @created
]);
