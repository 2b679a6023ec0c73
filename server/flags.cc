#include "server/flags.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/queue/postgres/store_url.h"

namespace attnprune {
namespace {

// As ParseBytes takes it: "5GiB", "512MiB" or a plain number.
std::string FlagText(int64_t bytes) {
  for (const auto& [unit, shift] : {std::pair("GiB", 30), std::pair("MiB", 20)}) {
    if (bytes > 0 && bytes % (int64_t{1} << shift) == 0) {
      return absl::StrCat(bytes >> shift, unit);
    }
  }
  return absl::StrCat(bytes);
}

// "5368709120", "5GiB", "5G", "512MiB", "64k"; units are powers of 1024.
bool ParseBytes(const std::string& text, int64_t* bytes) {
  const size_t end = text.find_first_not_of("0123456789");
  const absl::string_view unit = end == std::string::npos ? "" : text.c_str() + end;
  if (!absl::SimpleAtoi(text.substr(0, end), bytes)) return false;
  static const std::map<std::string, int>& shifts = *new std::map<std::string, int>{
      {"", 0},     {"b", 0},  {"k", 10},  {"kb", 10},  {"kib", 10}, {"m", 20},  {"mb", 20},
      {"mib", 20}, {"g", 30}, {"gb", 30}, {"gib", 30}, {"t", 40},   {"tb", 40}, {"tib", 40}};
  const auto shift = shifts.find(absl::AsciiStrToLower(unit));
  if (shift == shifts.end()) return false;
  if (*bytes > std::numeric_limits<int64_t>::max() >> shift->second) return false;
  *bytes <<= shift->second;
  return true;
}

// A flag whose text `parse` takes or refuses; `form` says what it must be.
void AddParsed(CLI::App& app, const std::string& name, const char* type,
               std::function<bool(const std::string&)> parse, const std::string& form,
               const std::string& default_text, const std::string& help) {
  app.add_option(
         name,
         [name, form, parse = std::move(parse)](const CLI::results_t& texts) {
           if (parse(texts.back())) return true;
           throw CLI::ValidationError(name, absl::StrCat("must be ", form, ", got ", texts.back()));
         },
         help)
      ->type_name(type)
      ->default_str(default_text);
}

void AddBytes(CLI::App& app, const std::string& name, int64_t& bytes, const std::string& help) {
  AddParsed(
      app, name, "BYTES", [&bytes](const std::string& text) { return ParseBytes(text, &bytes); },
      "a size such as 512MiB or 4GiB", FlagText(bytes), help);
}

// As absl::ParseDuration; also "30d".
bool ParseDuration(const std::string& text, absl::Duration* duration) {
  int days = 0;
  if (absl::EndsWith(text, "d") && absl::SimpleAtoi(text.substr(0, text.size() - 1), &days)) {
    *duration = days * absl::Hours(24);
    return true;
  }
  return absl::ParseDuration(text, duration);
}

void AddDuration(CLI::App& app, const std::string& name, absl::Duration& duration,
                 const std::string& help) {
  AddParsed(
      app, name, "DURATION",
      [&duration](const std::string& text) {
        return ParseDuration(text, &duration) && duration >= absl::ZeroDuration() &&
               duration < absl::InfiniteDuration();
      },
      "a duration of 0s or more such as 500ms, 30s, 10m or 30d", absl::FormatDuration(duration),
      help);
}

template <typename Enum>
void AddChoice(CLI::App& app, const std::string& name, const char* names, Enum& value,
               const std::map<std::string, Enum>& choices, const std::string& help) {
  std::string current;
  for (const auto& [text, choice] : choices) {
    if (choice == value) current = text;
  }
  AddParsed(
      app, name, names,
      [&value, choices](const std::string& text) {
        const auto choice = choices.find(text);
        if (choice != choices.end()) value = choice->second;
        return choice != choices.end();
      },
      absl::StrCat("one of ", names), current, help);
}

void AddTlsFlags(CLI::App& app, ServerOptions& o) {
  app.add_option("--tls-cert-file", o.tls_cert_file,
                 "PEM file of the server's certificate and those between it and its authority's: "
                 "both ports then speak TLS alone. Read again when it changes")
      ->type_name("FILE");
  app.add_option("--tls-key-file", o.tls_key_file,
                 "PEM file of that certificate's key, without a passphrase")
      ->type_name("FILE");
  app.add_option("--tls-client-ca-file", o.tls_client_ca_file,
                 "PEM file of authorities: clients must show a certificate of one of them")
      ->type_name("FILE");
}

void AddStoreFlags(CLI::App& app, ServerOptions& o) {
  app.add_option("--store", o.store,
                 "postgresql://USER@HOST:PORT/DATABASE, a PostgreSQL database for the jobs; their "
                 "tensors and checkpoints stay in the data folder, or are where --blobs says. "
                 "Without it the jobs are in the folder too, in SQLite. All users of a machine see "
                 "its processes' arguments: a URL with "
                 "a password goes into ATTNPRUNE_STORE or --config")
      ->type_name("URL")
      ->envname("ATTNPRUNE_STORE");
  app.add_option("--store-password-file", o.store_password_file,
                 "File whose first line is the database's password")
      ->type_name("FILE");
  app.add_option("--store-connections", o.store_connections,
                 "Connections to the database at most; one more hears of other servers' changes, "
                 "and four more are of --blobs")
      ->capture_default_str();
  app.add_option("--blobs", o.blobs,
                 "file:///FOLDER or s3://BUCKET/PREFIX?endpoint=URL&region=REGION"
                 "[&addressing=virtual], for the tensors "
                 "and checkpoints of all servers of the database, which --store names. The keys "
                 "are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment, else those "
                 "that a container or an instance of AWS has by its role")
      ->type_name("URL")
      ->envname("ATTNPRUNE_BLOBS");
  app.add_option("--blobs-credentials-file", o.blobs_credentials_file,
                 "File of the keys, as ~/.aws/credentials, in place of the environment's; read "
                 "again when it changes")
      ->type_name("FILE");
  AddBytes(app, "--blob-cache-bytes", o.blob_cache_bytes,
           "Size of the copies of a bucket's tensors that the data folder keeps");
}

void AddServerFlags(CLI::App& app, ServerOptions& o) {
  app.add_option("--listen", o.listen, "HOST:PORT to listen on; port 0 takes any free one")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  app.add_option(
         "--http-listen", o.http_listen,
         "HOST:PORT of the page, its JSON and metrics; empty: none. If the default is taken, "
         "the server runs without")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  app.add_option("--http-host", o.http_hosts,
                 "A name, without a port, that the HTTP port is reached by, beside addresses and "
                 "localhost; repeatable")
      ->type_name("NAME");
  AddTlsFlags(app, o);
  app.add_flag(
      "--allow-unauthenticated-network", o.allow_unauthenticated_network,
      "Lets --listen and --http-listen name addresses that others reach without TLS and tokens; "
      "they may then read, submit, cancel and delete everything");
  app.add_option(
         "--token-file", o.token_file,
         "Who may do what: lines \"SHA256 TENANT ROLE [NAME]\", made by `attnprune-server token "
         "new`; read again when it changes. Without it everyone may do everything")
      ->type_name("FILE");
  app.add_option(
         "--data-dir", o.data_dir,
         "Folder of jobs and tensors, with --store and --blobs of copies alone; made if it is "
         "missing, one server at a time")
      ->type_name("DIR")
      ->capture_default_str();
  AddStoreFlags(app, o);
  app.add_option("--audit-log", o.audit_log,
                 "File that gets a JSON line a change, upload and download: who, what, from where. "
                 "Appended to, mode 0600; opened anew at SIGHUP")
      ->type_name("FILE");
  app.add_flag(
      "--accept-loss", o.accept_loss,
      "Starts although jobs that were accepted are missing from the folder's database, and "
      "goes on with what is there; without it such a start is refused");
  app.add_option("--workers", o.workers, "Jobs that run at the same time")->capture_default_str();
  app.add_option("--threads-per-job", o.threads_per_job,
                 "Threads that solve one job; 0: the cores divided by the workers")
      ->capture_default_str();
  app.add_option("--max-queued-jobs", o.max_queued_jobs, "Jobs that may wait in the queue")
      ->capture_default_str();
  app.add_option("--max-queued-per-tenant", o.max_queued_per_tenant,
                 "Of them, those of one tenant; 0: no limit of its own")
      ->capture_default_str();
  app.add_option("--max-running-per-tenant", o.max_running_per_tenant,
                 "Jobs of one tenant that run at the same time; 0: as many as there are workers")
      ->capture_default_str();
  AddBytes(app, "--max-bytes-per-tenant", o.max_bytes_per_tenant,
           "Size of the tensors that are one tenant's, and of its uploads; 0: no limit of its own");
  AddBytes(app, "--max-upload-rate-per-tenant", o.max_upload_rate_per_tenant,
           "A second, of all uploads of one tenant: beyond it the server reads them more slowly; "
           "0: no limit");
  app.add_option("--max-connections", o.max_connections,
                 "To the gRPC port: one more takes the place of one by which no call was let in; "
                 "0: what open files and memory allow, at most 4000")
      ->capture_default_str();
  app.add_option("--max-streams", o.max_streams,
                 "Uploads, downloads and watches that are open at the same time")
      ->capture_default_str();
  app.add_option("--max-streams-per-tenant", o.max_streams_per_tenant,
                 "Of them, those of one tenant; 0: a half of them where there are tokens, else all")
      ->capture_default_str();
  AddBytes(app, "--max-tensor-bytes", o.max_tensor_bytes, "Size of one tensor");
  AddBytes(app, "--max-total-bytes", o.max_total_bytes, "Size of all tensors and uploads");
  AddBytes(
      app, "--memory-budget,--max-job-memory", o.max_job_memory_bytes,
      "Memory that a job may take: dense attention that does not fit is rebuilt at every step, "
      "tokens that do not fit even so stay in a temporary file of the data folder, and a job that "
      "still does not fit is refused; 0: the machine's divided by the workers");
  AddBytes(app, "--max-message-bytes", o.max_message_bytes,
           "Size of one message, or JSON body, received");
  AddBytes(app, "--max-chunk-bytes", o.max_chunk_bytes, "Size of one message's piece of an upload");
  AddDuration(app, "--checkpoint-interval", o.checkpoint_interval,
              "Between two checkpoints of a job; a crash loses so much of its solving");
  AddDuration(app, "--progress-interval", o.progress_interval,
              "Between two writes of a job's progress, which its watchers then see; longer spares "
              "the database");
  AddDuration(app, "--lease", o.lease, "A worker silent for so long loses its job");
  AddDuration(app, "--heartbeat", o.heartbeat, "An idle watch stream gets a heartbeat this often");
  AddDuration(app, "--keep-finished", o.keep_finished,
              "A job or run is deleted so long after its end, by this machine's clock; 0s: never");
  AddDuration(app, "--tensor-grace", o.tensor_grace,
              "A tensor that no job uses is kept for so long");
  AddDuration(app, "--collect-interval", o.collect_interval,
              "Between two looks for jobs and tensors to remove");
}

// A password that every user of the machine has seen is one no more.
void RefuseVisiblePassword(const std::vector<std::string>& arguments, const std::string& store) {
  if (!postgres::HasPassword(store)) return;
  for (const std::string& argument : arguments) {
    if (!absl::StrContains(argument, store)) continue;
    throw CLI::ValidationError(
        "--store", absl::StrCat("must have no password on the command line, which all users of the "
                                "machine see, got ",
                                postgres::WithoutPassword(store),
                                "; use --store-password-file or ATTNPRUNE_STORE"));
  }
}

// CLI11 takes the next argument for the value that "--http-listen=" does not have.
std::vector<std::string> Arguments(int argc, const char* const* argv) {
  std::vector<std::string> last_first;
  for (int i = argc - 1; i > 0; --i) {
    const std::string argument = argv[i];
    const bool empty = argument == "--http-listen=";
    if (empty) last_first.emplace_back();
    last_first.push_back(empty ? "--http-listen" : argument);
  }
  return last_first;
}

}  // namespace

absl::optional<ServerFlags> ParseServerFlags(int argc, const char* const* argv, int* exit_code) {
  ServerFlags flags;
  flags.server.data_dir = "attnprune-data";
  flags.server.http_listen = "127.0.0.1:8080";
  CLI::App app("Prunes attention weights: a gRPC server with a durable queue of jobs.",
               "attnprune-server");
  app.footer(
      "attnprune-server token new --help: makes a token for --token-file.\n"
      "attnprune-server backup --help: copies the data folder of a server that runs.");
  AddServerFlags(app, flags.server);
  app.add_option("--port-file", flags.port_file, "File that gets the port once it is listened on")
      ->type_name("FILE");
  app.add_option("--http-port-file", flags.http_port_file, "The same for the HTTP port")
      ->type_name("FILE");
  AddChoice<LogFormat>(app, "--log-format", "text|json", flags.log_format,
                       {{"text", LogFormat::kText}, {"json", LogFormat::kJson}},
                       "Form of the log lines, on standard error");
  AddChoice<LogLevel>(app, "--log-level", "debug|info|warning|error", flags.log_level,
                      {{"debug", LogLevel::kDebug},
                       {"info", LogLevel::kInfo},
                       {"warning", LogLevel::kWarning},
                       {"error", LogLevel::kError}},
                      "Lowest level that is logged");
  AddDuration(app, "--drain-timeout", flags.drain_timeout,
              "After SIGTERM or SIGINT: for checkpoints and calls to end");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.set_config("--config", "", "TOML or INI file of these flags, without dashes in front");
  app.set_version_flag("--version", ATTNPRUNE_VERSION);
  try {
    app.parse(Arguments(argc, argv));
    RefuseVisiblePassword(Arguments(argc, argv), flags.server.store);
  } catch (const CLI::ParseError& error) {
    *exit_code = app.exit(error) == 0 ? 0 : kWrongUsage;
    return absl::nullopt;
  }
  flags.server.http_optional = app.count("--http-listen") == 0;
  return flags;
}

absl::optional<TokenFlags> ParseTokenFlags(int argc, const char* const* argv, int* exit_code) {
  TokenFlags flags;
  CLI::App app("Makes tokens, by which a server with --token-file knows who calls.",
               "attnprune-server token");
  CLI::App& make = *app.add_subcommand(
      "new", "Prints a new token, which nothing can show again, and adds its hash to the file");
  make.add_option("--tenant", flags.tenant, "Whose it is: 1 to 63 characters [a-z0-9-]")
      ->required();
  make.add_option("--role", flags.role,
                  "reader looks at the tenant's jobs and fetches their results; submitter also "
                  "creates, cancels and deletes them; admin does so with every tenant's")
      ->required()
      ->type_name("reader|submitter|admin");
  make.add_option("--name", flags.name, "For log lines: at most 63 characters [A-Za-z0-9._-]");
  make.add_option("--token-file", flags.token_file,
                  "File that gets the line; made if it is missing, with mode 0600. Without it the "
                  "line is printed on standard error")
      ->type_name("FILE");
  app.require_subcommand(1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    *exit_code = app.exit(error) == 0 ? 0 : kWrongUsage;
    return absl::nullopt;
  }
  return flags;
}

absl::optional<BackupOptions> ParseBackupFlags(int argc, const char* const* argv, int* exit_code) {
  BackupOptions options;
  CLI::App app(
      "Copies a data folder while its server runs: a whole copy, checked, or none. A server can be "
      "started on it.",
      "attnprune-server backup");
  app.add_option("--data-dir", options.data_dir, "The server's data folder")
      ->type_name("DIR")
      ->required();
  app.add_option("--output", options.output,
                 "Folder of the copy: empty or not there. On the same file system files that never "
                 "change are hard links")
      ->type_name("DIR")
      ->required();
  app.add_flag("--verify", options.verify, "Hash every tensor of the copy");
  app.add_flag("--allow-missing", options.allow_missing,
               "Leave out tensors and checkpoints that jobs refer to and that are lost");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    *exit_code = app.exit(error) == 0 ? 0 : kWrongUsage;
    return absl::nullopt;
  }
  return options;
}

}  // namespace attnprune
