/**
 * A Slurm cluster for tests: a controller and two nodes on this machine, over loopback, in a temporary folder. Requires the
 * packages slurmctld, slurmd, slurm-client and munge, and root for slurmd and munged.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from './wait.js';

const PROGRAMS = ['slurmctld', 'slurmd', 'sbatch', 'squeue', 'munged'];

/** Why Slurm cannot be started here; null if it can. */
export const slurmMissing = whyMissing();
if (slurmMissing !== null) console.info(`skipped: Slurm cannot be started: ${slurmMissing}`);

function whyMissing(): string | null {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  const missing = PROGRAMS.filter((name) => spawnSync('which', [name], { env: { PATH: path } }).status !== 0);
  if (missing.length > 0) {
    return `${missing.join(', ')} not installed (packages slurmctld slurmd slurm-client munge)`;
  }
  if (process.getuid?.() !== 0) return 'its daemons need root';
  return addressOf(hostname())?.startsWith('127.') === true
    ? null
    : `${hostname()} does not resolve to a loopback address`;
}

function addressOf(host: string): string | undefined {
  return spawnSync('getent', ['ahostsv4', host], { encoding: 'utf8' }).stdout?.split(' ')[0];
}

export type NodeName = 'n1' | 'n2';
const NODES: readonly NodeName[] = ['n1', 'n2'];

export class SlurmCluster {
  readonly folder = mkdtempSync(join(tmpdir(), 'mod-slurm-'));
  private readonly daemons = new Map<string, ChildProcess>();

  /** Starts munged, the controller and both nodes; children of this process use them from now on. */
  async start(): Promise<void> {
    process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
    process.env.SLURM_CONF = join(this.folder, 'slurm.conf');
    chmodSync(this.folder, 0o755);
    for (const name of ['state', 'log']) mkdirSync(join(this.folder, name));
    await this.startMunge();
    await this.configure();
    this.startController();
    for (const node of NODES) this.startNode(node);
    await waitUntil('both nodes are idle', () => this.idleNodes() === NODES.length, 60);
  }

  /** Kills everything that was started: first the daemons, which start jobs, then the jobs. */
  async stop(): Promise<void> {
    for (const name of [...this.daemons.keys()].reverse()) await this.kill(name);
    for (const node of NODES) this.killNode(node);
    rmSync(this.folder, { recursive: true, force: true });
  }

  startController(): void {
    this.startDaemon('controller', 'slurmctld', ['-D']);
  }

  /** Simulates a crash by SIGKILL. */
  killController(): Promise<void> {
    return this.kill('controller');
  }

  /** Waits until the controller has saved its current state: unsaved state is lost with it. */
  async waitForSavedState(): Promise<void> {
    const [now, file] = [Date.now(), join(this.folder, 'state/job_state')];
    await waitUntil(
      'the state is saved',
      () => (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) > now,
      60,
    );
  }

  startNode(node: NodeName): void {
    this.startDaemon(node, 'slurmd', ['-D', '-N', node]);
  }

  /** Kills only the node's slurmd: its jobs keep running. */
  killDaemon(node: NodeName): Promise<void> {
    return this.kill(node);
  }

  /** Kills the whole node at once: slurmd, its steps and all their processes. */
  killNode(node: NodeName): void {
    const steps = pids().filter((pid) => this.isStepOf(pid, node));
    this.daemons.get(node)?.kill('SIGKILL'); // no signal if it has exited: its pid may be reused
    for (const pid of steps.flatMap((step) => [step, ...descendants(step)])) tryKill(pid);
  }

  /** Runs one of Slurm's programs and returns its output. */
  run(program: string, ...args: string[]): string {
    return execFileSync(program, args, { encoding: 'utf8' });
  }

  /** The same; null if it fails. */
  tryRun(program: string, ...args: string[]): string | null {
    return orNull(() => this.run(program, ...args));
  }

  /** Array tasks and single jobs that are queued or running. */
  queue(): { job: string; state: string; node: string }[] {
    return this.run('squeue', '--noheader', '--array', '--format=%i|%T|%N')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [job, state, node] = line.split('|') as [string, string, string];
        return { job, state, node };
      });
  }

  /** Waits until no job, or no task of the given job, is queued or running. */
  async waitForEnd(seconds: number, id?: string): Promise<void> {
    const isOf = ({ job }: { job: string }) => id === undefined || job === id || job.startsWith(`${id}_`);
    await waitUntil(`${id ?? 'all jobs'} ended`, () => !this.queue().some(isOf), seconds);
  }

  private idleNodes(): number {
    const { stdout, status } = spawnSync('sinfo', ['--noheader', '-N', '--states=idle', '--format=%N'], {
      encoding: 'utf8',
    });
    return status === 0 ? stdout.split('\n').filter((line) => line !== '').length : 0;
  }

  private startDaemon(name: string, program: string, args: string[]): void {
    const log = openSync(join(this.folder, 'log', `${name}.out`), 'a');
    const child = spawn(program, [...args, '-f', process.env.SLURM_CONF as string], {
      stdio: ['ignore', log, log],
      detached: true, // Ctrl-C in the tests' terminal must not reach it
    });
    this.daemons.set(name, child);
  }

  private async kill(name: string): Promise<void> {
    const child = this.daemons.get(name);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  private async startMunge(): Promise<void> {
    const [uid, gid] = ['-u', '-g'].map((flag) => Number(execFileSync('id', [flag, 'munge']))) as [
      number,
      number,
    ];
    const folder = join(this.folder, 'munge');
    const key = join(folder, 'key');
    mkdirSync(folder, { mode: 0o755 });
    writeFileSync(key, randomBytes(128), { mode: 0o400 });
    for (const path of [folder, key]) chownSync(path, uid, gid);
    const files = ['key-file=key', 'socket=socket', 'pid-file=pid', 'seed-file=seed', 'log-file=log'];
    const args = files.map((file) => `--${file.replace('=', `=${folder}/`)}`);
    const child = spawn('munged', ['--foreground', ...args], { uid, gid, stdio: 'ignore', detached: true });
    this.daemons.set('munge', child);
    await waitUntil('munged listens', () => readdirSync(folder).includes('socket'), 10);
  }

  private async configure(): Promise<void> {
    const { folder } = this;
    const [controller, ...ports] = (await freePorts(1 + NODES.length)) as [number, ...number[]];
    const [host, address] = [hostname(), addressOf(hostname())];
    const nodes = NODES.map(
      (node, i) =>
        `NodeName=${node} NodeHostname=${host} NodeAddr=${address} Port=${ports[i]} CPUs=2 RealMemory=500 State=UNKNOWN`,
    );
    // LLN picks the least loaded node, so that tasks are spread over both. Timeouts are short for the tests: a node counts as
    // down after 10 s, credentials of requeued jobs expire after 5 s.
    const lines = `ClusterName=test
SlurmctldHost=${host}(${address})
SlurmctldPort=${controller}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=${folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool.%n
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd.%n.pid
SlurmctldLogFile=${folder}/log/slurmctld.log
SlurmdLogFile=${folder}/log/slurmd.%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core,CR_LLN
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
SlurmdTimeout=10
BatchStartTimeout=5
KillWait=10
MinJobAge=3600
${nodes.join('\n')}
PartitionName=main Nodes=${NODES} Default=YES MaxTime=INFINITE State=UP
`;
    writeFileSync(join(folder, 'slurm.conf'), lines);
  }

  /** A step writes to the log of the slurmd that started it. */
  private isStepOf(pid: number, node: NodeName): boolean {
    return (
      name(pid) === 'slurmstepd' && openFiles(pid).includes(join(this.folder, 'log', `slurmd.${node}.log`))
    );
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

function pids(): number[] {
  return readdirSync('/proc').map(Number).filter(Number.isInteger);
}

function descendants(pid: number): number[] {
  const children = pids().filter((other) => parent(other) === pid);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

/** Null if the process has exited. */
function parent(pid: number): number | null {
  return orNull(() =>
    Number(
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) \S /s, '')
        .split(' ')[0],
    ),
  );
}

function name(pid: number): string | null {
  return orNull(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
}

function openFiles(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return (
    orNull(() => readdirSync(folder).map((fd) => orNull(() => readlinkSync(join(folder, fd))) ?? '')) ?? []
  );
}

function tryKill(pid: number): void {
  orNull(() => process.kill(pid, 'SIGKILL'));
}

function orNull<T>(look: () => T): T | null {
  try {
    return look();
  } catch {
    return null;
  }
}
